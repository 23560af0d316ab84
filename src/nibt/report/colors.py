"""One diverging colour scale for maps and words: blue speaks against, red for, zero has no colour.

The ends are those of ColorBrewer's RdBu (Brewer et al., Apache-2.0), which colour-blind readers can tell apart.
"""

import numpy as np

FOR = (178, 24, 43)
AGAINST = (33, 102, 172)
PAPER = (255, 255, 255)
INK = (34, 34, 34)
FAINT = (108, 108, 108)  # small print keeps a contrast of 5 on paper
ALERT, ALERT_EDGE = (255, 247, 232), (179, 107, 0)  # the ground and the edge of what must be read first
COVER = 0.8  # how much of what is under it the strongest score hides


def strength(values: np.ndarray, most: float) -> np.ndarray:
    """Scores as shares of the largest absolute score, in [-1, 1]; all zero where there is none."""
    return np.clip(values / most, -1, 1) if most > 0 else np.zeros_like(values)


def blend(under: np.ndarray, share: np.ndarray, opacity: float = COVER) -> np.ndarray:
    """Colour laid over RGB values (..., 3) by signed shares (...): zero leaves what is under it as it is."""
    hue = np.where(share[..., None] >= 0, np.array(FOR, np.float32), np.array(AGAINST, np.float32))
    cover = np.abs(share)[..., None] * opacity
    return np.round(under * (1 - cover) + hue * cover).astype(np.uint8)


def on_paper(share: float) -> tuple[int, int, int]:
    """The background of a word."""
    red, green, blue = blend(np.array(PAPER, np.float32), np.array(share, np.float32)).tolist()
    return red, green, blue


def ink_on(background: tuple[int, int, int]) -> tuple[int, int, int]:
    """Black or white, whichever reads better: a contrast of at least 4.5 (WCAG 2, by relative luminance).

    >>> ink_on((255, 255, 255)), ink_on((206, 107, 119)), ink_on(FOR)
    ((0, 0, 0), (0, 0, 0), (255, 255, 255))

    """
    linear = ((value / 255 / 12.92) if value <= 10 else ((value / 255 + 0.055) / 1.055) ** 2.4 for value in background)
    luminance = sum(weight * value for weight, value in zip((0.2126, 0.7152, 0.0722), linear, strict=True))
    return (0, 0, 0) if (luminance + 0.05) ** 2 > 1.05 * 0.05 else PAPER
