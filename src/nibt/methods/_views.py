"""Views: maps finer than the tower's grid, from several windows on an image that are shifted by parts of a unit.

Shifts are symmetric from left to right, so that a mirrored image has the mirrored map if the model treats both alike.
An odd number of views has the image as the model sees it without views, and pairs to the left and to the right of it,
at even heights. An even number has pairs only.

Each view has a map of its own, whose units lie at the shifted places. A cell of the finer grid has the mean score,
by area, of the units that cover it in the views that reach there: a flat map stays flat. What units have outside of
the image is in no cell, and counts as the share of special tokens.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cache, lru_cache

import torch
from jaxtyping import Float
from torch import Tensor

from nibt.core.quadrature import AT_ONCE
from nibt.core.side import Side
from nibt.data.units import Grid, SequenceUnits, cells_of
from nibt.results.attribution import Attribution, PathSummary

FINEST = 3
"""The largest number of cells per unit along each axis; with more views, shifts are finer than cells."""


@cache
def shifts(count: int) -> tuple[tuple[float, float], ...]:
    """Return the shifts of ``count`` views in units, down and to the right, from -1/2 (excluded) to 1/2.

    Examples:
        >>> shifts(3)
        ((0.0, 0.0), (0.5, -0.3333333333333333), (0.5, 0.3333333333333333))
        >>> shifts(2)
        ((0.0, -0.25), (0.0, 0.25))
    """
    pairs, single = divmod(count, 2)
    if single:
        heights = [height / (pairs + 1) for height in range(1, pairs + 1)]
        heights = [height - 1 if height > 0.5 else height for height in heights]
    else:
        heights = [(height + 0.5) / pairs - 0.5 for height in range(pairs)]
    across = 1 / 3 if single else 1 / 4
    both = tuple((height, sign * across) for height in heights for sign in (-1, 1))
    return ((0.0, 0.0),) * single + both


@dataclass(frozen=True)
class Views:
    """The views of a batch of images.

    Attributes:
        side: The side of the images.
        extent: The height and the width of the tower's input in pixels.
        grid: The units of which the shifts are parts.
        shifts: The shifts in pixels, down and to the right.
        lowest: The lowest layer that is explained.
    """

    side: Side
    extent: tuple[int, int]
    grid: Grid
    shifts: tuple[tuple[int, int], ...]
    lowest: int

    @classmethod
    def of(cls, side: Side, count: int, layers: Sequence[int] = ()) -> "Views | None":
        """Return the views of a side for a method with these layers, or without layers; None for one view."""
        if count == 1:
            return None
        trace, lowest = side.trace, min(layers, default=0)
        grid = cells_of(trace.cut(lowest if layers else trace.tower.depth).units)
        extent = trace.tower.extent(trace.inputs)
        down, right = extent[0] / grid.rows, extent[1] / grid.columns
        moves = tuple((round(rows * down), round(columns * right)) for rows, columns in shifts(count))
        return cls(side, extent, grid, moves, lowest)

    def sides(self, at_once: int | None = None) -> Iterator[Side]:
        """Yield the sides of the views, in order: the image itself, if it is a view, then several at once."""
        start = int(self.shifts[0] == (0, 0))
        if start:
            yield self.side
        at_once = max(1, AT_ONCE // len(self.side.trace.inputs.values)) if at_once is None else at_once
        for first in range(start, len(self.shifts), at_once):
            yield self.side.shifted(self.shifts[first : first + at_once], self.lowest)

    def blend(self, maps: Float[Tensor, "view *other unit"], units: Grid) -> tuple[Float[Tensor, "*other cell"], Grid]:
        """Blend the maps of all views.

        A method may have a grid of its own, as RISE has. If it is finer than that of the tower, it is kept.
        """
        cells = min(len(self.shifts), FINEST) if units.rows * units.columns <= self.grid.rows * self.grid.columns else 1
        fine = blended(units.unfold(maps), self._places(units), cells)
        return fine.flatten(-2), Grid(units.rows * cells, units.columns * cells)

    def special_token_share(
        self, maps: Float[Tensor, "view *other unit"], units: Grid, shares: Float[Tensor, "view ..."]
    ) -> Float[Tensor, "..."]:
        """Return the mean share of the absolute score that is on special tokens or outside of the image."""
        inside = []
        for grid, (down, right) in zip(units.unfold(maps.abs()), self._places(units), strict=True):
            rows, columns = (
                overlaps(units.rows, 1, down).sum(0).to(grid),
                overlaps(units.columns, 1, right).sum(0).to(grid),
            )
            inside.append((rows @ grid @ columns) / grid.sum((-2, -1)).clamp_min(1e-30))
        return (1 - (1 - shares) * torch.stack(inside)).mean(0)

    def _places(self, units: Grid) -> list[tuple[float, float]]:
        """Return the shifts in units of a grid."""
        height, width = self.extent
        return [(down * units.rows / height, right * units.columns / width) for down, right in self.shifts]


def explain_views(views: Views, attribute: Callable[[Side], Attribution]) -> Attribution:
    """Compute the fine maps of a batch: blended scores, and the means of all other values over the views."""
    results = [attribute(side) for side in views.sides()]
    units, batch = results[0].units, len(views.side.trace.inputs.values)
    grid = cells_of(units)
    by_view = (len(views.shifts), batch)
    scores = torch.cat([result.scores for result in results]).unflatten(0, by_view)
    maps, words = scores, None
    if isinstance(units, SequenceUnits):
        maps, words = scores[..., : grid.count], scores[..., grid.count :].mean(0)
    shares = torch.cat([result.special_token_share for result in results]).unflatten(0, by_view)
    scores, fine = views.blend(maps, grid)
    special = views.special_token_share(maps, grid, shares)
    if words is not None:
        scores, fine = torch.cat([scores, words], -1), replace(units, grid=fine)
    starts = ((result.path, first) for result in results for first in range(0, len(result.scores), batch))
    paths = [path[first : first + batch] for path, first in starts if path is not None]
    return Attribution(scores, fine, special, PathSummary.mean(paths) if paths else None)


def blended(
    grids: Float[Tensor, "view *other row column"], places: Sequence[tuple[float, float]], cells: int
) -> Float[Tensor, "*other fine_row fine_column"]:
    """Return the mean of maps with shifted units, on a grid of ``cells`` cells per unit along each axis."""
    total, covered = [], []
    for grid, (down, right) in zip(grids, places, strict=True):
        rows, columns = (
            overlaps(units, cells, shift).to(grid) for units, shift in zip(grid.shape[-2:], (down, right), strict=True)
        )
        total.append(rows @ grid @ columns.T)
        covered.append(rows.sum(1)[:, None] * columns.sum(1))
    return torch.stack(total).sum(0) / torch.stack(covered).sum(0) / cells**2


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
