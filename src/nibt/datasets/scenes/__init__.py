"""Synthetic scenes with ground truth: emoji on varied backgrounds, with captions that name them.

The box, the mask and the words of every object are known, so that maps and word scores can be compared with the truth.
Scenes are drawn with integer arithmetic only, so that an item has the same bits on every machine.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Annotated

import numpy as np
from PIL import Image

from nibt.data.images import ImageInput
from nibt.data.objects import Box, Object
from nibt.data.pair import Pair
from nibt.datasets._captions import NamingCaption, naming_caption
from nibt.datasets._draws import Draws
from nibt.datasets.base import Dataset, check_position
from nibt.datasets.scenes.drawing import ANGLES, BACKGROUNDS, CODES, NOUNS, STYLES, Sprite, sprite
from nibt.errors import BadOption
from nibt.options import Count, OneOf, Percent, Range, Seed

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
        check_position(item, self.count)
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
        code = draws.one_of(CODES[name])
        style = draws.one_of(self.styles)
        flip = draws.chance(50)
        angle = draws.one_of(ANGLES)
        best: tuple[int, tuple[Sprite, int, int]] | None = None
        for attempt in range(_TRIES):
            size = draws.one_of(self._sizes) if 2 * attempt < _TRIES else self._sizes[0]
            sprites = sprite(code, style, size, angle)
            height, width = sprites.opacity.shape
            left = draws.between(0, SIDE - width)
            top = draws.between(0, SIDE - height)
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
    return naming_caption(
        nouns, draws.one_of(TEMPLATES), joint=draws.one_of(JOINTS), ending=ending, definite=draws.chance(12)
    )
