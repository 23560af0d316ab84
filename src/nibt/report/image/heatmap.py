"""A map laid over the original photograph, with the model's resize and crop undone (Pillow).

What the model did not see is not given a score: it is shown as not seen, and has 0 in the map file.
"""

from typing import Protocol, runtime_checkable

import numpy as np
from jaxtyping import Float
from PIL import Image, ImageFilter
from torch import Tensor

from nibt.data.images import Region
from nibt.report.colors import blend, strength
from nibt.results.attribution import over_image, placed

STRIPES, STRIPED = (215, 235), 0.75  # where the model did not look: greys, and how much they cover
GREYING = 0.85  # how much of the photograph's own colour gives way, so that the map's can be read


@runtime_checkable
class Mapped(Protocol):
    """What has a map on an image: an explanation, or one word's part of a word-region table."""

    @property
    def grid(self) -> Float[Tensor, "row column"]: ...

    @property
    def region(self) -> Region: ...

    @property
    def size(self) -> tuple[int, int]: ...


def seen(mapped: Mapped, size: tuple[int, int]) -> tuple[int, int, int, int]:
    """The region that the model saw, as (left, top, right, bottom) in a copy of the image of that size."""
    return placed(mapped.region, mapped.size, size)


def score_map(mapped: Mapped, size: tuple[int, int] | None = None) -> np.ndarray:
    """The signed scores over a copy of the image of that (width, height), by default the original's: float32,
    (height, width), 0 where the model did not see.
    """
    return over_image(mapped.grid, mapped.region, mapped.size, size)


def overlay(mapped: Mapped, image: Image.Image, positive_only: bool = False, most: float | None = None) -> Image.Image:
    ""
    """The map over a copy of the image (of any size); with ``positive_only`` only what speaks for the caption. The
    score ``most`` has the full colour, without it the map's largest.
    """
    scores = score_map(mapped, image.size)
    most = float(mapped.grid.abs().max()) if most is None else most
    share = strength(scores.clip(0) if positive_only else scores, most)
    grey = Image.blend(image, image.convert("L").convert("RGB"), GREYING)
    return _unseen(mapped, Image.fromarray(blend(np.asarray(grey, np.float32), share)))


def _unseen(mapped: Mapped, image: Image.Image) -> Image.Image:
    """Pale and striped where the model did not look."""
    left, top, right, bottom = seen(mapped, image.size)
    if left <= 0 and top <= 0 and right >= image.width and bottom >= image.height:
        return image
    row, column = np.indices((image.height, image.width))
    stripes = np.where((row + column) // 6 % 2, *reversed(STRIPES)).astype(np.uint8)
    hidden = Image.blend(image.convert("L").filter(ImageFilter.GaussianBlur(2)), Image.fromarray(stripes), STRIPED)
    hidden = hidden.convert("RGB")
    box = max(0, left), max(0, top), min(image.width, right), min(image.height, bottom)
    hidden.paste(image.crop(box), box[:2])
    return hidden


def map_image(mapped: Mapped, positive_only: bool = False) -> Image.Image:
    """The map alone, grey, of the original's size: 128 is zero, 255 the largest absolute score for the caption;
    with ``positive_only`` 0 is zero or less.
    """
    share = strength(score_map(mapped), float(mapped.grid.abs().max()))
    grey = share.clip(0) * 255 if positive_only else 128 + share * 127
    return Image.fromarray(np.round(grey).astype(np.uint8))


def mask_image(mapped: Mapped, threshold: float = 0.5) -> Image.Image:
    """White where the score is at least ``threshold`` of the largest positive score, black elsewhere."""
    scores = score_map(mapped)
    most = float(mapped.grid.max())
    return Image.fromarray(np.where((scores >= threshold * most) & (most > 0), 255, 0).astype(np.uint8))
