"""The diverging color scale of maps and words: blue is negative, red is positive, and zero has no color.

The ends are those of ColorBrewer's RdBu (Brewer et al., Apache-2.0), which color-blind readers can distinguish.
"""

import numpy as np

FOR = (178, 24, 43)
AGAINST = (33, 102, 172)
PAPER = (255, 255, 255)
INK = (34, 34, 34)
FAINT = (108, 108, 108)  # has a contrast of 5 on the background
ALERT, ALERT_EDGE = (255, 247, 232), (179, 107, 0)  # background and edge of banners
COVER = 0.8  # opacity of the largest score


def strength(values: np.ndarray, most: float) -> np.ndarray:
    """Divide scores by the largest absolute score, to [-1, 1]; all zero if it is zero."""
    return np.clip(values / most, -1, 1) if most > 0 else np.zeros_like(values)


def blend(under: np.ndarray, share: np.ndarray, opacity: float = COVER) -> np.ndarray:
    """Blend RGB values (..., 3) with the color of signed shares (...); a share of zero leaves them unchanged."""
    hue = np.where(share[..., None] >= 0, np.array(FOR, np.float32), np.array(AGAINST, np.float32))
    cover = np.abs(share)[..., None] * opacity
    return np.round(under * (1 - cover) + hue * cover).astype(np.uint8)


def on_paper(share: float) -> tuple[int, int, int]:
    """Return the background color of a word."""
    red, green, blue = blend(np.array(PAPER, np.float32), np.array(share, np.float32)).tolist()
    return red, green, blue


def ink_on(background: tuple[int, int, int]) -> tuple[int, int, int]:
    """Return black or white text for a background, with a contrast of at least 4.5 (WCAG 2, relative luminance).

    Examples:
        >>> ink_on((255, 255, 255)), ink_on((206, 107, 119)), ink_on(FOR)
        ((0, 0, 0), (0, 0, 0), (255, 255, 255))

    """
    linear = ((value / 255 / 12.92) if value <= 10 else ((value / 255 + 0.055) / 1.055) ** 2.4 for value in background)
    luminance = sum(weight * value for weight, value in zip((0.2126, 0.7152, 0.0722), linear, strict=True))
    return (0, 0, 0) if (luminance + 0.05) ** 2 > 1.05 * 0.05 else PAPER
