"""Views: maps finer than the tower's grid, from several copies of an image that are shifted by fractions of a unit.

The first view is the image itself. The other views are pairs, one shifted to the left and one to the right, at equally
spaced heights. So a mirrored image has the mirrored map, if the model treats both alike. If the number of views is
even, one view is shifted down only.

Each view has a map, whose units are shifted with the image. A cell of the finer grid has the mean score, weighted by
area, of the units that cover it, over the views that reach the cell. So a flat map stays flat. However, a model may use
something only at its place in the original image, where the shifted views do not show it. Therefore, the mean sets only
the differences within each unit: the score of a unit in the first map, minus the sum of the mean over the cells of this
unit, is added to these cells, smoothed across borders. The sum of the fine map is the sum of the first map.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cache, lru_cache

import torch
from jaxtyping import Float
from torch import Tensor

from nibt.core.side import AT_ONCE, BUDGET, Side
from nibt.data.units import Grid, SequenceUnits, cells_of
from nibt.results.attribution import Attribution

FINEST = 3
"""The largest number of cells per unit along each axis; with more views, shifts are finer than cells."""


@cache
def shifts(count: int) -> tuple[tuple[float, float], ...]:
    """Return the shifts of ``count`` views in units, down and to the right, from -1/2 (excluded) to 1/2.

    Examples:
        >>> shifts(3)
        ((0.0, 0.0), (0.5, -0.3333333333333333), (0.5, 0.3333333333333333))
        >>> shifts(2)
        ((0.0, 0.0), (0.5, 0.0))
    """
    pairs, below = divmod(count - 1, 2)
    heights = [height / (pairs + 1) for height in range(1, pairs + 1)]

    # a shift down by more than half a unit leads to the same units as a smaller one up, which leaves less blank
    heights = [height - 1 if height > 0.5 else height for height in heights]
    both = tuple((height, sign / 3) for height in heights for sign in (-1, 1))
    return ((0.0, 0.0), *both, *((0.5, 0.0),) * below)


@dataclass(frozen=True)
class Views:
    """The views of a batch of images.

    Attributes:
        side: The side of the images.
        extent: The height and the width of the tower's input in pixels.
        grid: The units of which the shifts are parts.
        shifts: The shifts in pixels, down and to the right.
        lowest: The lowest layer whose state is read.
    """

    side: Side
    extent: tuple[int, int]
    grid: Grid
    shifts: tuple[tuple[int, int], ...]
    lowest: int

    @classmethod
    def of(cls, side: Side, count: int, layers: Sequence[int] = (), lowest: int | None = None) -> "Views | None":
        """Return the views of a side; None for one view.

        A method without ``layers`` has the grid of the last one. ``lowest`` is the lowest layer whose state it reads.
        """
        if count == 1:
            return None

        first = min(layers, default=0)
        grid = cells_of(side.cut(first if layers else side.tower.depth).units)
        extent = side.image_tower.extent(side.inputs)
        down = extent[0] / grid.rows
        right = extent[1] / grid.columns
        moves = tuple((round(rows * down), round(columns * right)) for rows, columns in shifts(count))
        return cls(side, extent, grid, moves, first if lowest is None else lowest)

    def sides(self, at_once: int | None = None) -> Iterator[Side]:
        """Yield the sides of the views, in order: the image itself, then several at once."""
        yield self.side
        yield from self.shifted_sides(at_once)

    def shifted_sides(self, at_once: int | None = None) -> Iterator[Side]:
        """Yield the sides of the shifted views, several at once."""
        if at_once is None:
            hidden = self.side.cut(self.lowest).hidden
            at_once = max(1, min(AT_ONCE // len(hidden), BUDGET // hidden.numel()))

        for first in range(1, len(self.shifts), at_once):
            yield self.side.shifted(self.shifts[first : first + at_once], self.lowest)

    def blend(self, maps: Float[Tensor, "view *other unit"], units: Grid) -> tuple[Float[Tensor, "*other cell"], Grid]:
        """Blend the maps of all views.

        A method may have a grid of its own, as RISE has. If it is finer than that of the tower, it is kept.
        """
        is_finer = units.rows * units.columns > self.grid.rows * self.grid.columns
        cells = 1 if is_finer else min(len(self.shifts), FINEST)
        grids = maps.unflatten(-1, (units.rows, units.columns))

        total = []
        covered = []
        for grid, (down, right) in zip(grids, self.shifts, strict=True):
            rows = overlaps(units.rows, cells, down * units.rows / self.extent[0]).to(grid)
            columns = overlaps(units.columns, cells, right * units.columns / self.extent[1]).to(grid)
            total.append(rows @ grid @ columns.T)
            covered.append(rows.sum(1)[:, None] * columns.sum(1))

        # the mean at each cell over the views that reach it, of scores that are spread over the cells of a unit
        fine = torch.stack(total).sum(0) / torch.stack(covered).sum(0) / cells**2

        # the scores of the first map that the mean lacks, smoothed across the borders of its units
        width = cells * self.side.image_tower.blend_width
        rows = smoothing(units.rows, cells, width * units.rows / self.grid.rows).to(fine)
        columns = smoothing(units.columns, cells, width * units.columns / self.grid.columns).to(fine)
        lacking = grids[0] - fine.unflatten(-1, (-1, cells)).unflatten(-3, (-1, cells)).sum((-3, -1))
        fine = fine + rows @ lacking @ columns.T
        return fine.flatten(-2), Grid(units.rows * cells, units.columns * cells)

    def merge(self, results: Sequence[Attribution], negative: bool) -> Attribution:
        """Return the fine maps of a batch, which may have negative scores; all else is that of the image as it is."""
        plain = results[0]
        units = results[0].units
        scores = torch.cat([result.scores for result in results]).unflatten(0, (len(self.shifts), -1))

        # in a sequence with text, the scores of tokens follow those of cells, and have no views
        cells = cells_of(units)
        count = cells.rows * cells.columns
        fine, grid = self.blend(scores[..., :count], cells)

        # the difference that blending adds may make a small score negative
        path = plain.path
        if not negative:
            fine = fine.clamp_min(0)
            path = path and replace(path, sum=fine.sum(-1))

        units = replace(units, grid=grid) if isinstance(units, SequenceUnits) else grid
        scores = torch.cat([fine, scores[0, :, count:]], -1)
        return replace(plain, scores=scores, units=units, path=path, error=None, evaluations=())


@lru_cache(maxsize=256)
def overlaps(units: int, cells: int, shift: float) -> Float[Tensor, "{units}*{cells} {units}"]:
    """Return the length that each cell of a line shares with each of the shifted units, which have the length 1.

    Examples:
        >>> overlaps(2, 2, 0.5).tolist()
        [[0.0, 0.0], [0.5, 0.0], [0.5, 0.0], [0.0, 0.5]]
    """
    edges = torch.arange(units + 1, dtype=torch.float64, device="cpu") + shift
    lines = torch.arange(units * cells + 1, dtype=torch.float64, device="cpu") / cells
    low = torch.maximum(lines[:-1, None], edges[None, :-1])
    high = torch.minimum(lines[1:, None], edges[None, 1:])
    return (high - low).clamp_min(0)


@lru_cache(maxsize=256)
def smoothing(units: int, cells: int, width: float) -> Float[Tensor, "{units}*{cells} {units}"]:
    """Return the share of each unit of a line in each cell: even, then smoothed by a triangle of a half width in cells.

    Examples:
        >>> smoothing(2, 1, 1.0).tolist()
        [[1.0, 0.0], [0.0, 1.0]]
    """
    places = torch.arange(units * cells, dtype=torch.float64, device="cpu")
    triangle = (1 - (places[:, None] - places[None]).abs() / width).clamp_min(0)
    return triangle / triangle.sum(0) @ overlaps(units, cells, 0.0)
