"""Synthetic scenes with ground truth: emoji on varied backgrounds, with captions that name them.

The box, the mask and the words of every object are known, so that maps and word scores can be compared with the truth.
Scenes are drawn with integer arithmetic only, so that an item has the same bits on every machine.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache, partial
from importlib.resources import files
from typing import Annotated

import numpy as np
from PIL import Image

from nibt.data.images import ImageInput
from nibt.data.pair import Box, Object, Pair
from nibt.datasets._captions import NamingCaption, naming_caption
from nibt.datasets._draws import Draws
from nibt.datasets.base import Dataset
from nibt.errors import BadOption
from nibt.io import load_json
from nibt.options import Count, OneOf, Percent, Range, Seed

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


_DIRECTIONS = ((1, 0), (2, 1), (1, 1), (1, 2), (0, 1), (-1, 2), (-1, 1), (-2, 1))


def plain(draws: Draws, side: int) -> np.ndarray:
    """Draw a plain background of one color."""
    return np.broadcast_to(draws.color(), (side, side, 3)).copy()


def gradient(draws: Draws, side: int) -> np.ndarray:
    """Draw a gradient between two colors, in one of eight directions."""
    first, last = draws.color().astype(np.int64), draws.color().astype(np.int64)
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
    period, pattern = draws.between(6, 20), draws.below(4)
    across, down = np.arange(side)[None, :], np.arange(side)[:, None]
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


SIDE = 128
_SIZES = (26, 30, 35, 40, 46, 52, 58, 64)  # in pixels: 20 to 50 % of the side
_TRIES = 24
_IMAGE, _CAPTION = range(2)
TEMPLATES = (
    "{}",
    "a photo of {}",
    "a picture of {}",
    "an image of {}",
    "a drawing of {}",
    "there is {}",
    "this is {}",
    "here we see {}",
    "{} in the picture",
    "a scene with {}",
)
JOINTS = ("and", "and", "and", "with", "next to")
WORDS = "a an the and with next to photo of picture image drawing there is this here we see in scene , .".split()


@dataclass(frozen=True)
class Scene:
    """A scene: its pixels, and the name, the box and the visible mask of each object."""

    pixels: np.ndarray
    names: tuple[str, ...]
    boxes: tuple[Box, ...]
    masks: tuple[np.ndarray, ...]


@dataclass(frozen=True)
class Scenes(Dataset):
    """Synthetic scenes of 128 x 128 pixels, with the box, the mask and the words of each object.

    Images do not depend on the options of captions.

    Attributes:
        count: The number of scenes.
        seed: The seed of all draws.
        fewest: The smallest number of objects.
        most: The largest number of objects.
        smallest: The smallest size of an object, in percent of the side of the image.
        largest: The largest size of an object, in percent of the side of the image.
        named: The objects that a caption names: "all", "one", or "some" (at least one).
        mismatch: The percentage of captions in which a noun is replaced by that of an object outside of the image.
        template: Whether the nouns are in a sentence; if not, the caption is a list of nouns.
        styles: The styles of the emoji.
        backgrounds: The kinds of background.
    """

    count: Count = 1000
    seed: Seed = 0
    fewest: Annotated[int, Range(1, 4)] = 1
    most: Annotated[int, Range(1, 4)] = 4
    smallest: Percent = 20
    largest: Percent = 50
    named: Annotated[str, OneOf(("all", "one", "some"))] = "some"
    mismatch: Annotated[int, Range(0, 100)] = 0
    template: bool = True
    styles: tuple[str, ...] = STYLES
    backgrounds: tuple[str, ...] = tuple(BACKGROUNDS)

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.fewest > self.most:
            raise BadOption(f"fewest must be at most most (got {self.fewest} and {self.most})")
        if not self._sizes:
            raise BadOption(
                f"smallest and largest must include a size between 20 and 50 percent (got {self.smallest} and "
                f"{self.largest})"
            )
        for option, allowed in (("styles", STYLES), ("backgrounds", tuple(BACKGROUNDS))):
            names = getattr(self, option)
            if not names or set(names) - set(allowed):
                raise BadOption(f"{option} must be among {', '.join(allowed)} (got {', '.join(names) or 'none'})")

    def __len__(self) -> int:
        return self.count

    def content(self, item: int) -> str:
        """Return the position, since the options determine the scenes."""
        return str(item)

    def __getitem__(self, item: int) -> Pair:
        if not 0 <= item < self.count:
            raise IndexError(f"item must be between 0 and {self.count - 1} (got {item})")
        scene = self.scene(item)
        caption, named = self._caption(scene, item)
        spans = {noun: (span,) for noun, span in zip(named, caption.spans, strict=True)}
        objects = tuple(
            Object(name, box, mask, spans.get(name, ()), without=partial(self._without, item, name))
            for name, box, mask in zip(scene.names, scene.boxes, scene.masks, strict=True)
        )
        absent = tuple(span for noun, span in zip(named, caption.spans, strict=True) if noun not in scene.names)
        return Pair(self._image(scene, item), caption.text, objects, absent)

    def scene(self, item: int, without: str = "") -> Scene:
        """Draw the scene of an item."""
        draws = Draws(self.seed, item, _IMAGE)
        pixels = BACKGROUNDS[draws.one_of(self.backgrounds)](draws, SIDE)
        names = draws.several_of(NOUNS, draws.between(self.fewest, self.most))
        boxes: list[Box] = []
        masks: list[np.ndarray] = []
        for name in names:
            drawing, left, top = self._placed(draws, name, boxes)
            boxes.append((left, top, *drawing.opacity.shape[::-1]))
            if name == without:
                masks.append(np.zeros(pixels.shape[:2], bool))
                continue
            mask = _painted(pixels, drawing, left, top)
            masks = [under & ~mask for under in masks] + [mask]
        return Scene(pixels, tuple(names), tuple(boxes), tuple(masks))

    def _without(self, item: int, name: str) -> ImageInput:
        """Return the image of an item without one of its objects."""
        return self._image(self.scene(item, name), item)

    def _image(self, scene: Scene, item: int) -> ImageInput:
        return ImageInput(Image.fromarray(scene.pixels), f"scenes:{self.seed}:{item}")

    @property
    def _sizes(self) -> tuple[int, ...]:
        return tuple(size for size in _SIZES if self.smallest <= round(100 * size / SIDE) <= self.largest)

    def _placed(self, draws: Draws, name: str, taken: list[Box]) -> tuple[Sprite, int, int]:
        """Draw an object, and a position that covers as little as possible of other objects."""
        code, style, flip = draws.one_of(CODES[name]), draws.one_of(self.styles), draws.chance(50)
        angle = draws.one_of(ANGLES)
        best: tuple[int, tuple[Sprite, int, int]] | None = None
        for attempt in range(_TRIES):
            size = draws.one_of(self._sizes) if 2 * attempt < _TRIES else self._sizes[0]
            sprites = sprite(code, style, size, angle)
            height, width = sprites.opacity.shape
            left, top = draws.between(0, SIDE - width), draws.between(0, SIDE - height)
            shared = 0  # the area of the intersections with other boxes
            for x, y, across, down in taken:
                common = min(left + width, x + across) - max(left, x), min(top + height, y + down) - max(top, y)
                shared += max(0, common[0]) * max(0, common[1])
            if best is None or shared < best[0]:
                best = shared, (sprites, left, top)
            if not shared:
                break
        assert best is not None
        drawing, left, top = best[1]
        flipped = Sprite(drawing.colors[:, ::-1], drawing.opacity[:, ::-1])
        return (flipped if flip else drawing), left, top

    def _caption(self, scene: Scene, item: int) -> tuple[NamingCaption, list[str]]:
        draws = Draws(self.seed, item, _CAPTION)
        count = {"all": len(scene.names), "one": 1, "some": draws.between(1, len(scene.names))}[self.named]
        named = draws.several_of(scene.names, count)
        if draws.chance(self.mismatch):
            named[draws.below(count)] = draws.one_of([noun for noun in NOUNS if noun not in scene.names])
        return (drawn(named, draws) if self.template else bare(named)), named


def _painted(pixels: np.ndarray, drawing: Sprite, left: int, top: int) -> np.ndarray:
    """Draw a sprite onto the image, in place, and return the mask of the pixels that it hides."""
    height, width = drawing.opacity.shape
    area = np.s_[top : top + height, left : left + width]
    behind = 255 - drawing.opacity[..., None].astype(np.uint16)
    pixels[area] = drawing.colors + ((pixels[area] * behind + 127) // 255).astype(np.uint8)
    mask = np.zeros(pixels.shape[:2], bool)
    mask[area] = drawing.opacity > 127
    return mask


def bare(nouns: Sequence[str]) -> NamingCaption:
    """Return a caption that lists the nouns: ``a cat, a dog and an owl``."""
    return naming_caption(nouns)


def drawn(nouns: Sequence[str], draws: Draws) -> NamingCaption:
    """Draw a caption with the nouns, in their order, in a random template."""
    ending = " ." if draws.chance(25) else ""
    return naming_caption(nouns, draws.one_of(TEMPLATES), draws.one_of(JOINTS), ending, draws.chance(12))
