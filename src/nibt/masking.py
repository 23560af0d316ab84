"""Hiding parts of an input. Inputs are masked here and nowhere else, forward only."""

from collections.abc import Callable, Iterator

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from nibt.models.base import ImageTower, TextTower
from nibt.models.base_trace import Inputs
from nibt.paths import chunks
from nibt.side import Side
from nibt.types import PerExample, PerUnit
from nibt.units import Grid, Units

_WITHOUT_GRAPH = 4  # times as many states fit into the memory that those with a graph take


def masker(side: Side, units: Units, smooth: bool = False) -> Callable[[PerUnit], PerExample]:
    """The score of a side as a function of how much of each unit is kept: 1 all of it, 0 nothing. A stack of masks,
    (mask, batch, unit), gives (mask, batch).

    A pixel is scaled after normalising, so nothing is the mean colour; ``smooth`` stretches the units over the pixels
    bilinearly, without seams. A word is faded as its embedding, toward the padding token's, before it gets its place;
    special tokens stay whole.
    """
    tower, mode = side.tower, "bilinear" if smooth else "nearest"

    def of_image(keep: Float[Tensor, "mask batch unit"]) -> Float[Tensor, "mask batch"]:
        assert isinstance(units, Grid)
        assert isinstance(tower, ImageTower)
        pixels = F.interpolate(units.unfold(keep), tower.extent(side.inputs), mode=mode)
        return score_of_pixels(side, pixels)

    def of_text(keep: Float[Tensor, "mask batch unit"]) -> Float[Tensor, "mask batch"]:
        assert isinstance(tower, TextTower)
        assert side.inputs.words is not None
        explained = side.inputs.words.explained.to(keep.device)
        whole = torch.where(explained, keep[..., : explained.shape[1]], 1.0)
        with tower.fading(whole.flatten(0, 1)):
            return side.score(tower.encode(_tiled(side, len(keep))).unflatten(0, keep.shape[:2]))

    part = of_image if isinstance(units, Grid) else of_text

    def score(keep: PerUnit) -> PerExample:
        stack = keep if keep.ndim == 3 else keep[None]
        found = torch.cat([part(stack[some]) for some in together(side, len(stack))])
        return found if keep.ndim == 3 else found[0]

    return score


def together(side: Side, count: int) -> Iterator[slice]:
    """Which of ``count`` masks go through the tower together, without a graph."""
    largest = max((stream for stream in side.trace.streams if stream is not None), key=Tensor.numel)
    return chunks(count, largest, _WITHOUT_GRAPH)


def score_of_pixels(side: Side, keep: Float[Tensor, "mask batch height width"]) -> Float[Tensor, "mask batch"]:
    """The score for each of a few masks over the pixels that the tower sees: 1 keeps a pixel, 0 is the mean colour."""
    assert isinstance(side.tower, ImageTower)
    seen = side.tower.dimmed(_tiled(side, len(keep)), keep.flatten(0, 1))
    return side.score(side.tower.encode(seen).unflatten(0, keep.shape[:2]))


def _tiled(side: Side, count: int) -> Inputs:
    """The inputs, as often as there are masks."""
    return side.inputs.take(list(range(len(side.inputs))) * count) if count > 1 else side.inputs
