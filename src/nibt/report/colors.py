"""How results are drawn: the diverging color scales of maps and words (two colors, none at zero), and styles of maps.

Colors are mixed in OKLab (B. Ottosson, "A perceptual color space for image processing", 2020), in which equal
steps look equal. The photograph under a map keeps its differences in brightness.
"""

from dataclasses import dataclass, replace
from functools import cache

import numpy as np

from nibt.errors import BadOption
from nibt.options import parsed

RGB = tuple[int, int, int]
PAPER: RGB = (255, 255, 255)
INK: RGB = (34, 34, 34)
FAINT: RGB = (108, 108, 108)  # has a contrast of 5 on the background
ALERT = (255, 247, 232)  # the background of banners
ALERT_EDGE = (179, 107, 0)
COVER = 1.0  # how much of its color the largest score has
# OKLab lightness of black and of white under a map, which leaves room for color
DARKEST = 0.2
LIGHTEST = 0.92
KEPT = 0.4  # how much of the photograph's lightness remains where the color is full
PALE = 0.25  # how much of its color a score has that is noise, or cannot be told from 0
LEVELS = 256  # of a color's strength, in each direction

_TO_CONES = np.array(
    [
        [0.4122214708, 0.5363325363, 0.0514459929],
        [0.2119034982, 0.6806995451, 0.1073969566],
        [0.0883024619, 0.2817188376, 0.6299787005],
    ]
)
_TO_LAB = np.array(
    [
        [0.2104542553, 0.7936177850, -0.0040720468],
        [1.9779984951, -2.4285922050, 0.4505937099],
        [0.0259040371, 0.7827717662, -0.8086757660],
    ]
)


@dataclass(frozen=True)
class Palette:
    """The colors of the largest positive and negative scores, and their names."""

    positive: RGB
    negative: RGB
    names: tuple[str, str]

    @property
    def pale(self) -> "Palette":
        """The same colors, three quarters of the way to white."""

        def mixed(color: RGB) -> RGB:
            red, green, blue = (round(255 - (255 - value) * PALE) for value in color)
            return red, green, blue

        return Palette(mixed(self.positive), mixed(self.negative), self.names)


PALETTES = {
    "red_blue": Palette((222, 45, 38), (33, 113, 220), ("red", "blue")),
    "orange_purple": Palette((230, 97, 1), (94, 60, 153), ("orange", "purple")),
    "pink_green": Palette((208, 28, 139), (60, 145, 40), ("pink", "green")),
}
"""Palettes by name. Readers with red-green blindness can tell the colors of the first two apart."""


def find_palette(name: str) -> Palette:
    """Return a palette of ``PALETTES``, or the two ends of a color map of matplotlib."""
    if name in PALETTES:
        return PALETTES[name]

    from matplotlib import colormaps

    if name not in colormaps:
        raise BadOption(f"cmap must be {', '.join(PALETTES)} or a color map of matplotlib, such as PuOr (got {name!r})")

    ends = (colormaps[name](end) for end in (0.0, 1.0))
    low, high = ((round(255 * red), round(255 * green), round(255 * blue)) for red, green, blue, _ in ends)
    return Palette(high, low, ("the color at the right end of the scale", "the color at its left end"))


STYLES = ("overlay", "colors", "outline", "heatmap")
OUTLINED = 0.5
"""The share of the largest positive score at which the outline is drawn."""


@dataclass(frozen=True)
class Appearance:
    """How results are drawn: the colors, one of ``STYLES``, and whether negative scores are hidden."""

    positive_only: bool = False
    style: str = "overlay"
    palette: Palette = PALETTES["red_blue"]

    @property
    def outlined(self) -> bool:
        return self.style in ("overlay", "outline")

    @property
    def pale(self) -> "Appearance":
        """The same with pale colors and without outlines, for maps that are noise."""
        style = "heatmap" if self.style == "heatmap" else "colors"
        return replace(self, style=style, palette=self.palette.pale)

    def is_one_sided(self, signed: bool, lowest: float) -> bool:
        """Whether a color scale has no negative side, of scores that are signed or not, with the lowest of them."""
        return self.positive_only or (not signed and lowest >= 0)


DEFAULT = Appearance()


def appearance(positive_only: bool = False, style: str = "overlay", cmap: str = "red_blue") -> Appearance:
    """Return how results are drawn, by names."""
    if style not in STYLES:
        raise BadOption(f"style must be {', '.join(STYLES[:-1])} or {STYLES[-1]} (got {style!r})")
    return Appearance(parsed("positive_only", positive_only, bool), style, find_palette(cmap))


def to_oklab(rgb: np.ndarray) -> np.ndarray:
    """Convert sRGB values (..., 3) from 0 to 255 to OKLab."""
    encoded = np.asarray(rgb, np.float64) / 255
    linear = np.where(encoded <= 0.04045, encoded / 12.92, ((encoded + 0.055) / 1.055) ** 2.4)
    return np.cbrt(linear @ _TO_CONES.T) @ _TO_LAB.T


def from_oklab(lab: np.ndarray) -> np.ndarray:
    """Convert OKLab values (..., 3) to sRGB, uint8; colors outside sRGB are clipped."""
    linear = np.clip((lab @ np.linalg.inv(_TO_LAB).T) ** 3 @ np.linalg.inv(_TO_CONES).T, 0, 1)
    encoded = np.where(linear <= 0.0031308, 12.92 * linear, 1.055 * linear ** (1 / 2.4) - 0.055)
    return np.round(255 * encoded).astype(np.uint8)


def strength(values: np.ndarray, most: float) -> np.ndarray:
    """Divide scores by the largest absolute score, to [-1, 1]; all zero if it is zero."""
    return np.clip(values / most, -1, 1) if most > 0 else np.zeros_like(values)


def faded(scores: np.ndarray, errors: np.ndarray | None) -> np.ndarray:
    """Return scores as they are drawn: those that cannot be told from 0 with a quarter of their size.

    >>> faded(np.array([1.0, -0.4]), np.array([0.5, 0.5])).tolist()
    [1.0, -0.1]
    """
    if errors is None:
        return scores
    return np.where(np.abs(scores) <= errors, PALE * scores, scores)


def on_paper(share: np.ndarray | float, palette: Palette) -> np.ndarray:
    """Return the color (..., 3) of signed shares (...) on white, uint8: the background of a word, a color bar."""
    shares = np.asarray(share, np.float64)[..., None]
    hue = np.where(shares >= 0, to_oklab(np.array(palette.positive)), to_oklab(np.array(palette.negative)))
    cover = np.abs(shares) * COVER
    return from_oklab(to_oklab(np.array(PAPER)) * (1 - cover) + hue * cover)


def tint(gray: np.ndarray, share: np.ndarray, palette: Palette) -> np.ndarray:
    """Color a gray photograph by signed shares."""
    return _tints(palette)[gray, np.round((share + 1) * LEVELS).astype(int)]


@cache
def _tints(palette: Palette) -> np.ndarray:
    """Return the color of each gray (256) and each strength (2 LEVELS + 1)."""
    gray = np.arange(256)[:, None].repeat(3, 1)
    lightness = DARKEST + (LIGHTEST - DARKEST) * to_oklab(gray)[:, None, :1]
    shares = np.linspace(-1, 1, 2 * LEVELS + 1)[None, :, None]
    hue = np.where(shares >= 0, to_oklab(np.array(palette.positive)), to_oklab(np.array(palette.negative)))
    cover = np.abs(shares) * COVER
    light = lightness * (1 - cover * (1 - KEPT)) + hue[..., :1] * cover * (1 - KEPT)
    tints = np.broadcast_to(hue * cover, (*light.shape[:2], 3)).copy()
    tints[..., :1] = light
    return from_oklab(tints)


SHADES = 20
"""The number of shades of a color on pages: each has a class, since pages allow no style attributes."""


def shade(share: float) -> str:
    """Return the class of a word with that share of the largest score.

    >>> shade(1.0), shade(-0.5), shade(0.0)
    ('for20', 'against10', 'for0')
    """
    step = round(share * SHADES)
    return f"{'for' if step >= 0 else 'against'}{abs(step)}"


def shades(palette: Palette) -> list[tuple[str, RGB, RGB]]:
    """Return the classes of all shades, with their colors of the background and of the text."""
    classes = []
    for step in range(-SHADES, SHADES + 1):
        red, green, blue = on_paper(step / SHADES, palette).tolist()
        background = red, green, blue
        classes.append((shade(step / SHADES), background, ink_on(background)))

    return classes


def css(color: RGB, opacity: float = 1.0) -> str:
    """Return a color in CSS syntax."""
    return f"rgb({color[0]} {color[1]} {color[2]} / {opacity:g})"


def ink_on(background: RGB) -> RGB:
    """Return black or white text for a background, with a contrast of at least 4.5 (WCAG 2, relative luminance).

    >>> ink_on((255, 255, 255)), ink_on((206, 107, 119)), ink_on((178, 24, 43))
    ((0, 0, 0), (0, 0, 0), (255, 255, 255))
    """
    linear = ((value / 255 / 12.92) if value <= 10 else ((value / 255 + 0.055) / 1.055) ** 2.4 for value in background)
    luminance = sum(weight * value for weight, value in zip((0.2126, 0.7152, 0.0722), linear, strict=True))
    return (0, 0, 0) if (luminance + 0.05) ** 2 > 1.05 * 0.05 else PAPER  # the one with the larger contrast
