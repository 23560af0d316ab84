"""Units that are refined where scores are large: blocks of cells, of which those that matter most are divided.

A few coarse blocks are removed one at a time. The block whose removal changes the target most is divided into quarters,
which are removed in turn, until there are as many blocks as requested, or single cells only.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from math import ceil, sqrt

import torch
from jaxtyping import Float
from torch import Tensor

from nibt.core.perturbation import masker
from nibt.core.side import Side
from nibt.data.units import Grid, Segments, cells_of
from nibt.errors import Unsupported

FEWEST = 9
"""The largest number of blocks at the start, about three along each axis."""


@dataclass(frozen=True, order=True)
class Block:
    """A rectangle of cells, from ``top`` and ``left`` up to the row ``bottom`` and the column ``right``."""

    top: int
    left: int
    bottom: int
    right: int

    @property
    def cells(self) -> tuple[slice, slice]:
        """The rows and columns."""
        return slice(self.top, self.bottom), slice(self.left, self.right)

    def divided(self, rows: int, columns: int) -> "list[Block]":
        """Return so many rows and columns of smaller blocks, or as many as there are cells."""
        down = _edges(self.top, self.bottom, rows)
        across = _edges(self.left, self.right, columns)
        return [Block(top, left, bottom, right) for top, bottom in down for left, right in across]


def _edges(start: int, end: int, parts: int) -> list[tuple[int, int]]:
    """Return the starts and ends of parts of an interval whose lengths differ by at most one."""
    count = min(parts, end - start)
    return list(pairwise(start + (end - start) * part // count for part in range(count + 1)))


def removals(units: int) -> int:
    """Return about how many blocks are removed, one at a time, to find so many units.

    A block that is divided into quarters adds three units, and takes four removals; one that is a single cell wide adds
    one, and takes two.
    """
    return FEWEST + ceil(4 * max(0, units - FEWEST) / 3)


def refined_segments(side: Side, count: int) -> Segments:
    """Return at most ``count`` blocks of the cells of each image, small ones where removal changes the target most.

    Of several targets, such as the words of an answer, the change is the root of the sum of the squared changes, so
    that words that the image determines count most.
    """
    grid = cells_of(side.units)
    if grid.parts:
        raise Unsupported(f"units must be words for several images (got refined:{count}): leave units out")

    whole = side.value()
    new = [_coarse(grid) for _ in range(len(side.inputs))]
    changes: list[dict[Block, float]] = [{} for _ in new]
    while any(new):
        for known, blocks, of_blocks in zip(changes, new, _changes(side, grid, whole, new).T.tolist(), strict=True):
            known.update(zip(blocks, of_blocks, strict=False))
        new = [_divided(known, count) for known in changes]

    labels = torch.stack([_labels(grid, sorted(known)) for known in changes])
    return Segments(labels, tuple(map(len, changes)), grid.bare())


def _coarse(grid: Grid) -> list[Block]:
    """Return at most nine blocks, about as wide as they are high."""
    rows = min(grid.rows, FEWEST, max(1, round(sqrt(FEWEST * grid.rows / grid.columns))))
    return Block(0, 0, *grid.shape).divided(rows, FEWEST // rows)


def _divided(changes: dict[Block, float], count: int) -> list[Block]:
    """Take out the block with the largest change that can be divided, and return its parts; none if none can."""
    for block in sorted(changes, key=lambda block: (-changes[block], block)):
        parts = block.divided(2, 2)
        if len(parts) > 1 and len(changes) - 1 + len(parts) <= count:
            del changes[block]
            return parts

    return []


def _changes(side: Side, grid: Grid, whole: Tensor, blocks: Sequence[Sequence[Block]]) -> Float[Tensor, "block item"]:
    """Return how far the target changes without each block of each item; for fewer blocks than others have, 0."""
    keep = torch.ones(max(map(len, blocks)), len(blocks), side.units.count, dtype=torch.float32, device="cpu")
    cells = grid.unfold(keep[..., : grid.count])
    for item, of_item in enumerate(blocks):
        for number, block in enumerate(of_item):
            cells[number, item, *block.cells] = 0.0

    with torch.no_grad():
        without = masker(side, side.units)(keep.to(side.tower.example.device))
        changes = without - whole
    return changes.reshape(*keep.shape[:2], -1).float().norm(dim=-1).cpu()


def _labels(grid: Grid, blocks: Sequence[Block]) -> Tensor:
    """Return the number of the block of each cell."""
    labels = torch.zeros(grid.shape, dtype=torch.long, device="cpu")
    for number, block in enumerate(blocks):
        labels[block.cells] = number
    return labels
