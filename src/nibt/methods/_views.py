"""Views: maps finer than the tower's grid, from several windows on an image that are shifted by parts of a unit.

The windows are shifted along a rank-one lattice: with n views, view k is shifted by k / n of a unit down and by
g k / n to the right (modulo one unit), where g keeps the shifts as far from each other as possible. View 0 is the
image as the model sees it without views.

Each view has a map of its own, whose units lie at the shifted places. A map describes whole units, so its score is
spread evenly over the area of the unit; the outer units extend to the edges of the image. A cell of the finer grid
has the mean over the views of what lies on it. The sum of the fine map is the mean of the sums of the maps.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from math import gcd

import torch
from jaxtyping import Float
from torch import Tensor

from nibt.core.quadrature import AT_ONCE
from nibt.core.side import Side
from nibt.data.units import Grid
from nibt.models.base import ImageTower
from nibt.results.attribution import Attribution, PathSummary

FINEST = 3
"""The largest number of cells per unit along each axis; with more views, shifts are finer than cells."""


@lru_cache
def lattice(count: int) -> tuple[tuple[float, float], ...]:
    """Return the shifts of ``count`` views in units, down and to the right, from -1/2 (excluded) to 1/2.

    Examples:
        >>> lattice(2)
        ((0.0, 0.0), (0.5, 0.5))

    """

    def shifts(generator: int) -> list[tuple[int, int]]:
        return [(number, number * generator % count) for number in range(count)]

    def nearest(generator: int) -> int:
        """Return the smallest squared distance between two shifts, where opposite edges of a unit meet."""
        away = [[min(step, count - step) for step in shift] for shift in shifts(generator)[1:]]
        return min((down**2 + right**2 for down, right in away), default=0)

    generators = [number for number in range(1, count + 1) if gcd(number, count) == 1]
    best = max(generators, key=nearest)  # the first of several
    centered = [[step - count if 2 * step > count else step for step in shift] for shift in shifts(best)]
    return tuple((down / count, right / count) for down, right in centered)


@dataclass(frozen=True)
class Views:
    """The views of a batch of images.

    Attributes:
        side: The side of the images, which is the first view.
        grid: The units of which the shifts are parts.
        shifts: The shifts in pixels, down and to the right.
        lowest: The lowest layer that is explained.

    """

    side: Side
    grid: Grid
    shifts: tuple[tuple[int, int], ...]
    lowest: int

    @classmethod
    def of(cls, side: Side, count: int, layers: Sequence[int] = ()) -> "Views":
        """Return the views of a side for a method with these layers, or without layers."""
        grid = side.cut(min(layers)).units if layers else side.units
        assert isinstance(grid, Grid)
        height, width = _extent(side)
        down, right = height / grid.rows, width / grid.columns
        shifts = tuple((round(rows * down), round(columns * right)) for rows, columns in lattice(count))
        return cls(side, grid, shifts, min(layers, default=0))

    def sides(self, together: int | None = None) -> Iterator[Side]:
        """Yield the sides of the views, in order: the first view, then several at once.

        Args:
            together: The number of views of a side after the first; None means as many as a batch may have.

        """
        yield self.side
        together = max(1, AT_ONCE // len(self.side.inputs)) if together is None else together
        for first in range(1, len(self.shifts), together):
            yield self.side.shifted(self.shifts[first : first + together], self.lowest)

    def blend(self, maps: Float[Tensor, "view *other unit"], units: Grid) -> tuple[Float[Tensor, "*other cell"], Grid]:
        """Blend the maps of all views.

        A method may have a grid of its own, as RISE has. If it is finer than that of the tower, it is kept.

        Args:
            maps: The maps.
            units: Their grid.

        Returns:
            The fine maps and their grid.

        """
        cells = min(len(self.shifts), FINEST) if units.count <= self.grid.count else 1
        height, width = _extent(self.side)
        shifts = [(down * units.rows / height, right * units.columns / width) for down, right in self.shifts]
        fine = blended(units.unfold(maps), shifts, cells)
        return fine.flatten(-2), Grid(units.rows * cells, units.columns * cells)


def _extent(side: Side) -> tuple[int, int]:
    assert isinstance(side.tower, ImageTower)
    return side.tower.extent(side.inputs)


def explain_views(views: Views, attribute: Callable[[Side], Attribution]) -> Attribution:
    """Compute the fine maps of a batch: blended scores, and the means of all other values over the views.

    Args:
        views: The views.
        attribute: Computes the maps of a side.

    """
    results = [attribute(part) for part in views.sides()]

    def by_view(values: Iterable[Tensor]) -> Float[Tensor, "view batch *other"]:
        return torch.cat(list(values)).unflatten(0, (len(views.shifts), -1))

    units, batch = results[0].units, len(views.side.inputs)
    assert isinstance(units, Grid)
    scores, fine = views.blend(by_view(result.scores for result in results), units)
    special = by_view(result.special_share for result in results).mean(0)
    starts = ((result.path, first) for result in results for first in range(0, len(result.scores), batch))
    paths = [path[first : first + batch] for path, first in starts if path is not None]
    return Attribution(scores, fine, special, PathSummary.mean(paths) if paths else None)


def blended(
    grids: Float[Tensor, "view *other row column"], shifts: Sequence[tuple[float, float]], cells: int
) -> Float[Tensor, "*other fine_row fine_column"]:
    """Return the mean of maps whose units lie at shifted places, on a grid of ``cells`` cells per unit along each axis.

    Args:
        grids: The map of each view.
        shifts: The shift of each view in units, down and to the right.
        cells: The number of cells per unit.

    """
    parts = []
    for grid, (down, right) in zip(grids, shifts, strict=True):
        rows, columns = spread(grid.shape[-2], cells, down).to(grid), spread(grid.shape[-1], cells, right).to(grid)
        parts.append(rows @ grid @ columns.T)
    return torch.stack(parts).mean(0)


def spread(units: int, cells: int, shift: float) -> Float[Tensor, "{units}*{cells} {units}"]:
    """Return the matrix that spreads the scores of a line of shifted units over finer cells; its columns sum to 1.

    Args:
        units: The number of units.
        cells: The number of cells per unit.
        shift: The shift in units.

    Examples:
        >>> spread(2, 2, 0.5).tolist()
        [[0.3333333333333333, 0.0], [0.3333333333333333, 0.0], [0.3333333333333333, 0.0], [0.0, 1.0]]

    """
    edges = unit_edges(units, shift)
    edges[0], edges[-1] = 0, units
    return overlaps(edges, units, cells) / (edges[1:] - edges[:-1])


def unit_edges(units: int, shift: float) -> Float[Tensor, " edge"]:
    """Return the edges of a line of shifted units."""
    return torch.arange(units + 1, dtype=torch.float64, device="cpu") + shift


def overlaps(edges: Float[Tensor, " edge"], units: int, cells: int) -> Float[Tensor, "{units}*{cells} {units}"]:
    """Return the length that each of the finer cells shares with each unit between two edges."""
    lines = torch.arange(units * cells + 1, dtype=torch.float64, device="cpu") / cells
    low = torch.maximum(lines[:-1, None], edges[None, :-1])
    high = torch.minimum(lines[1:, None], edges[None, 1:])
    return (high - low).clamp_min(0)
