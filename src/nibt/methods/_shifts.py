"""Any method's map, finer than the grid of the tower: the image is shifted by parts of a patch, and each shift
explained.

Where the n x n shifts put the middles of the patches, they are the cells of a grid n times as fine. Each shift tells of
all of its patch, so a cell has the mean of all maps stretched bilinearly, which is a triangle as wide as two patches
over the interleaved maps. All cells add up to the mean sum of the maps.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import torch
from jaxtyping import Float
from torch import Tensor

from nibt.core.side import Side
from nibt.data.units import Grid
from nibt.errors import BadOption, Unsupported
from nibt.methods.base import Method
from nibt.models.base import ImageTower
from nibt.results.attribution import Attribution, PathSummary

MOST = 8


@dataclass(frozen=True)
class Shifted(Method):
    """``inner``, asked of ``shifts`` x ``shifts`` shifted copies of each image."""

    inner: Method
    shifts: int

    def __post_init__(self) -> None:
        if not 2 <= self.shifts <= MOST:
            raise BadOption(f"shifts must be 1 (none) to {MOST} (got {self.shifts})")

    @property
    def layer(self) -> tuple[int, ...]:
        """The layers of the method itself, so that an image is traced from the lowest."""
        return getattr(self.inner, "layer", (0,))

    def options(self) -> dict[str, object]:
        """Those of the method, and how often it is asked."""
        return {**self.inner.options(), "shifts": self.shifts}

    def __call__(self, side: Side) -> Attribution:
        """The fine map of a batch.

        Raises:
            Unsupported: The tower takes patches, not an image that could be shifted.
            BadOption: The method's map lies on a grid of its own.

        """
        lowest = min(self.layer)
        grid = side.cut(lowest).units if hasattr(self.inner, "layer") else side.units
        assert isinstance(grid, Grid)
        answers = [self.inner(_moved(side, lowest, *step)) for step in self._steps(side, grid)]
        for answer in answers:
            if not isinstance(answer.units, Grid) or (answer.units.rows, answer.units.columns) != (
                grid.rows,
                grid.columns,
            ):
                raise BadOption(
                    f"shifts make the tower's own grid finer, and the map of {type(self.inner).__name__} "
                    "lies on one of its own: leave shifts out"
                )
        fine = interleave([answer.grid for answer in answers], self.shifts)
        told = [answer.path for answer in answers if answer.path is not None]
        return Attribution(
            fine.flatten(1),
            Grid(grid.rows * self.shifts, grid.columns * self.shifts),
            torch.stack([answer.special_share for answer in answers]).mean(0),
            _mean(told) if told else None,
        )

    def _steps(self, side: Side, grid: Grid) -> Iterator[tuple[int, int]]:
        """How many pixels down and across each copy is moved, rows before columns."""
        tower = side.tower
        assert isinstance(tower, ImageTower)
        if side.inputs.values.ndim != 4:
            raise Unsupported(
                f"a {type(tower).__name__} is given patches, not an image that could be shifted: leave shifts out"
            )
        height, width = tower.extent(side.inputs)
        parts = parts_of_patch(self.shifts)
        for down in parts:
            for across in parts:
                yield round(down * height / grid.rows), round(across * width / grid.columns)


def parts_of_patch(shifts: int) -> list[float]:
    """By how much of a patch images are shifted, each way: where the middles of the finer cells lie."""
    return [(2 * part + 1) / (2 * shifts) - 0.5 for part in range(shifts)]


def interleave(
    maps: Sequence[Float[Tensor, "batch row column"]], shifts: int
) -> Float[Tensor, "batch fine_row fine_column"]:
    """The maps of all shifts, rows before columns, interleaved and smoothed, so that all cells add up to the mean of
    their sums.
    """
    count, rows, columns = maps[0].shape
    stack = torch.stack(list(maps), -1).reshape(count, rows, columns, shifts, shifts)
    fine = stack.permute(0, 1, 3, 2, 4).reshape(count, rows * shifts, columns * shifts) / shifts**2
    down, across = (triangle(size * shifts, shifts).to(fine) for size in (rows, columns))
    return down @ fine @ across


def triangle(size: int, reach: int) -> Float[Tensor, "{size} {size}"]:
    """Smoothing by a triangle that is 0 from ``reach`` cells on, mirrored at both ends: symmetric, rows sum to 1."""
    matrix = torch.zeros(size, size, dtype=torch.float64, device="cpu")
    for row in range(size):
        for away in range(1 - reach, reach):
            place = (row + away) % (2 * size)
            matrix[row, min(place, 2 * size - 1 - place)] += (1 - abs(away) / reach) / reach
    return matrix


def _moved(side: Side, lowest: int, down: int, across: int) -> Side:
    """The side as if each image began that many pixels further down and to the right; its edge goes on where it
    ends.
    """
    values = side.inputs.values
    rows = (torch.arange(values.shape[-2], device=values.device) + down).clamp(0, values.shape[-2] - 1)
    columns = (torch.arange(values.shape[-1], device=values.device) + across).clamp(0, values.shape[-1] - 1)
    inputs = replace(side.inputs, values=values[..., rows, :][..., columns])
    return replace(side, trace=side.tower.trace(inputs, lowest))


def _mean(told: Sequence[PathSummary]) -> PathSummary:
    """The means over the paths of all shifts."""
    mean = {
        name: torch.stack([getattr(one, name) for one in told]).mean(0) for name in ("at_input", "at_baseline", "sum")
    }
    most = torch.stack([one.steps for one in told]).amax(0)
    return replace(told[0], **mean, steps=most)
