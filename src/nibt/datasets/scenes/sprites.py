"""The emoji of scenes, rotated and scaled with integer arithmetic."""

from dataclasses import dataclass
from functools import cache
from importlib.resources import files

import numpy as np
from PIL import Image

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
    seen_rows, seen_columns = np.flatnonzero(opacity.max(1) > 127), np.flatnonzero(opacity.max(0) > 127)
    visible = np.s_[seen_rows[0] : seen_rows[-1] + 1, seen_columns[0] : seen_columns[-1] + 1]
    colors = total[..., :3] // (255 * _SAMPLES**2)
    return Sprite(colors[visible].astype(np.uint8), opacity[visible].astype(np.uint8))


@cache
def _places(size: int, span: int, angle: int) -> tuple[np.ndarray, np.ndarray]:
    """Return the position in the sheet of each sample of a rotated emoji, and whether it is inside the emoji."""
    cosine, sine = _TURNS[angle]
    steps = 2 * np.arange(_SAMPLES * span, dtype=np.int64) + 1 - _SAMPLES * span
    across, down = steps[None, :], steps[:, None]
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
