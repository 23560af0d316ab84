"""The emoji and the backgrounds of scenes, drawn with integers."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from importlib.resources import files

import numpy as np
from PIL import Image

from nibt.datasets._draws import Draws
from nibt.io import load_json

_FOLDER = files("nibt") / "datasets" / "scenes"
_SIDE = 64  # the side of an emoji in its sheet, in pixels
_SAMPLES = 4  # a pixel is the mean of 4 x 4 samples
_ONE = 1 << 14  # 1 in fixed point
_TURNS = {-20: (15396, -5604), -10: (16135, -2845), 0: (16384, 0), 10: (16135, 2845), 20: (15396, 5604)}  # cos, sin
STYLES = ("noto", "twemoji", "fluent")
ANGLES = tuple(_TURNS)
CODES: dict[str, list[str]] = load_json(_FOLDER / "nouns.json")
NOUNS = tuple(CODES)
_PLACES = {code: place for place, code in enumerate(code for codes in CODES.values() for code in codes)}


@dataclass(frozen=True)
class Sprite:
    """An emoji, cropped to its visible part: its colors times the opacity, and the opacity, from 0 to 255."""

    colors: np.ndarray
    opacity: np.ndarray


@cache
def sprite(code: str, style: str, size: int, angle: int) -> Sprite:
    """Return an emoji of a size in pixels, rotated by one of ``ANGLES``."""
    span = size * 21 // 16  # the side of a square that is rotated by 20 degrees
    places, inside = _places(size, span, angle)
    taken = _sheet(style)[_PLACES[code]].take(places, axis=0) * inside
    total: np.ndarray = sum(
        taken[row::_SAMPLES, column::_SAMPLES] for row in range(_SAMPLES) for column in range(_SAMPLES)
    )  # pyright: ignore
    opacity = total[..., 3] // _SAMPLES**2
    seen_rows = np.flatnonzero(opacity.max(1) > 127)
    seen_columns = np.flatnonzero(opacity.max(0) > 127)
    visible = np.s_[seen_rows[0] : seen_rows[-1] + 1, seen_columns[0] : seen_columns[-1] + 1]
    colors = total[..., :3] // (255 * _SAMPLES**2)
    return Sprite(colors[visible].astype(np.uint8), opacity[visible].astype(np.uint8))


@cache
def _places(size: int, span: int, angle: int) -> tuple[np.ndarray, np.ndarray]:
    """Return the position in the sheet of each sample of a rotated emoji, and whether it is inside the emoji."""
    cosine, sine = _TURNS[angle]
    steps = 2 * np.arange(_SAMPLES * span, dtype=np.int64) + 1 - _SAMPLES * span
    across = steps[None, :]
    down = steps[:, None]
    scale = 2 * _SAMPLES * size * _ONE
    columns = _SIDE // 2 + (across * cosine + down * sine) * _SIDE // scale
    rows = _SIDE // 2 + (down * cosine - across * sine) * _SIDE // scale
    inside = (columns >= 0) & (columns < _SIDE) & (rows >= 0) & (rows < _SIDE)
    return (rows.clip(0, _SIDE - 1) * _SIDE + columns.clip(0, _SIDE - 1)), inside[..., None]


@cache
def _sheet(style: str) -> np.ndarray:
    """Load all emoji of a style: (emoji, 64 * 64, 4), the colors times the opacity, and the opacity."""
    with (_FOLDER / f"{style}.png").open("rb") as stream, Image.open(stream) as image:
        pixels = np.asarray(image.convert("RGBA"), dtype=np.int32)
    tiles = pixels.reshape(_SIDE, -1, _SIDE, 4).swapaxes(0, 1).reshape(-1, _SIDE * _SIDE, 4)
    return np.concatenate([tiles[..., :3] * tiles[..., 3:], tiles[..., 3:]], axis=-1)


def plain(draws: Draws, side: int) -> np.ndarray:
    """Draw a plain background of one color."""
    return np.broadcast_to(draws.color(), (side, side, 3)).copy()


def gradient(draws: Draws, side: int) -> np.ndarray:
    """Draw a gradient between two colors, in one of eight directions."""
    first = draws.color().astype(np.int64)
    last = draws.color().astype(np.int64)
    across, down = draws.one_of(_DIRECTIONS)
    places = across * np.arange(side)[None, :] + down * np.arange(side)[:, None]
    share = ((places - places.min()) * 256 // (places.max() - places.min()))[..., None]
    return ((first * (256 - share) + last * share) // 256).astype(np.uint8)


def noise(draws: Draws, side: int) -> np.ndarray:
    """Draw smooth coarse noise with finer noise on it."""
    coarse = _resized(draws.bytes(draws.between(3, 5), 3), draws, side)
    fine = _resized(draws.bytes(draws.between(8, 16), 3), draws, side)
    return ((3 * coarse + fine) // 4).astype(np.uint8)


def _resized(first: np.ndarray, draws: Draws, side: int) -> np.ndarray:
    """Draw colors on a coarse grid, and resize it bilinearly. Floats with integer values are used for speed."""
    cells = len(first)
    grid = np.concatenate([first[None], draws.bytes(cells - 1, cells, 3)]).astype(np.float32)
    weights = _weights(cells, side)
    rows = (weights @ grid.reshape(cells, -1)).reshape(side, cells, 3)
    return np.einsum("xc,ycd->yxd", weights, rows, optimize=True).astype(np.int64) // 256


def _weights(cells: int, side: int) -> np.ndarray:
    """Return the bilinear weights of ``side`` pixels on ``cells`` points, in sixteenths."""
    places = np.arange(side) * (cells - 1) * 16 // (side - 1)
    below = np.minimum(places // 16, cells - 2)
    share = places - below * 16
    weights = np.zeros((side, cells), np.float32)
    weights[np.arange(side), below] = 16 - share
    weights[np.arange(side), below + 1] = share
    return weights


def texture(draws: Draws, side: int) -> np.ndarray:
    """Draw stripes, checks or dots in two colors, with grain."""
    colors = np.stack([draws.color(), draws.color()]).astype(np.int64)
    colors[1] = (2 * colors[0] + colors[1]) // 3  # with less contrast, objects remain visible
    period = draws.between(6, 20)
    pattern = draws.below(4)
    across = np.arange(side)[None, :]
    down = np.arange(side)[:, None]
    if pattern == 0:
        color = (across + draws.between(-2, 2) * down) // (period // 2) % 2
    elif pattern == 1:
        color = (down + draws.between(-1, 1) * across) // (period // 2) % 2
    elif pattern == 2:
        color = (across // period + down // period) % 2
    else:
        color = ((across % period - period // 2) ** 2 + (down % period - period // 2) ** 2) < period * period // 9

    grain = draws.bytes(side, side, 1).astype(np.int64) // 11 - 11
    return (colors[np.broadcast_to(color, (side, side)).astype(np.int64)] + grain).clip(0, 255).astype(np.uint8)


BACKGROUNDS: dict[str, Callable[[Draws, int], np.ndarray]] = {
    "plain": plain,
    "gradient": gradient,
    "noise": noise,
    "texture": texture,
}


_DIRECTIONS = ((1, 0), (2, 1), (1, 1), (1, 2), (0, 1), (-1, 2), (-1, 1), (-2, 1))
