"""Maps finer than the tower's grid: any method, averaged over shifted copies of the image.

With n x n shifts by fractions of a patch, the centers of the patches are the cells of a grid n times as fine. Each
map describes whole patches. Each fine cell is therefore the mean of all maps after bilinear interpolation, which
equals smoothing the interleaved maps with a triangle two patches wide. The sum of the fine map is the mean sum of
the maps.
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
    """A method that averages ``inner`` over ``shifts`` x ``shifts`` shifted copies of each image."""

    inner: Method
    shifts: int

    def __post_init__(self) -> None:
        if not 2 <= self.shifts <= MOST:
            raise BadOption(f"shifts must be 1 (none) to {MOST} (got {self.shifts})")

    @property
    def layer(self) -> tuple[int, ...]:
        """The layers of the inner method, so that an image is traced from the lowest."""
        return getattr(self.inner, "layer", (0,))

    def options(self) -> dict[str, object]:
        """Return the options of the inner method, and ``shifts``."""
        return {**self.inner.options(), "shifts": self.shifts}

    def __call__(self, side: Side) -> Attribution:
        """Compute the fine maps of a batch.

        Raises:
            Unsupported: The tower takes patches instead of an image, which cannot be shifted.
            BadOption: The method has a grid of its own.

        """
        lowest = min(self.layer)
        grid = side.cut(lowest).units if hasattr(self.inner, "layer") else side.units
        assert isinstance(grid, Grid)
        results = [self.inner(_moved(side, lowest, *step)) for step in self._steps(side, grid)]
        for result in results:
            if not isinstance(result.units, Grid) or (result.units.rows, result.units.columns) != (
                grid.rows,
                grid.columns,
            ):
                raise BadOption(
                    f"shifts cannot refine the maps of {self.inner.name}, which have a grid of their own instead of "
                    "the tower's: leave shifts out"
                )
        fine = interleave([result.grid for result in results], self.shifts)
        paths = [result.path for result in results if result.path is not None]
        return Attribution(
            fine.flatten(1),
            Grid(grid.rows * self.shifts, grid.columns * self.shifts),
            torch.stack([result.special_share for result in results]).mean(0),
            _mean(paths) if paths else None,
        )

    def _steps(self, side: Side, grid: Grid) -> Iterator[tuple[int, int]]:
        """Yield the shift of each copy in pixels, down and across, in row-major order."""
        tower = side.tower
        assert isinstance(tower, ImageTower)
        if side.inputs.values.ndim != 4:
            raise Unsupported(
                f"shifts must be 1 for a {type(tower).__name__}, which takes patches instead of an image: "
                "leave shifts out"
            )
        height, width = tower.extent(side.inputs)
        parts = parts_of_patch(self.shifts)
        for down in parts:
            for across in parts:
                yield round(down * height / grid.rows), round(across * width / grid.columns)


def parts_of_patch(shifts: int) -> list[float]:
    """Return the shifts along one axis as fractions of a patch: the centers of the finer cells."""
    return [(2 * part + 1) / (2 * shifts) - 0.5 for part in range(shifts)]


def interleave(
    maps: Sequence[Float[Tensor, "batch row column"]], shifts: int
) -> Float[Tensor, "batch fine_row fine_column"]:
    """Interleave and smooth the maps of all shifts, in row-major order; the sum is the mean of the maps' sums."""
    count, rows, columns = maps[0].shape
    stack = torch.stack(list(maps), -1).reshape(count, rows, columns, shifts, shifts)
    fine = stack.permute(0, 1, 3, 2, 4).reshape(count, rows * shifts, columns * shifts) / shifts**2
    down, across = (triangle(size * shifts, shifts).to(fine) for size in (rows, columns))
    return down @ fine @ across


def triangle(size: int, reach: int) -> Float[Tensor, "{size} {size}"]:
    """Return the matrix that smooths with a triangle of half width ``reach``, mirrored at both ends.

    The matrix is symmetric, and its rows sum to 1.
    """
    matrix = torch.zeros(size, size, dtype=torch.float64, device="cpu")
    for row in range(size):
        for away in range(1 - reach, reach):
            place = (row + away) % (2 * size)
            matrix[row, min(place, 2 * size - 1 - place)] += (1 - abs(away) / reach) / reach
    return matrix


def _moved(side: Side, lowest: int, down: int, across: int) -> Side:
    """Return the side with its images shifted by that many pixels; edge pixels are repeated."""
    values = side.inputs.values
    rows = (torch.arange(values.shape[-2], device=values.device) + down).clamp(0, values.shape[-2] - 1)
    columns = (torch.arange(values.shape[-1], device=values.device) + across).clamp(0, values.shape[-1] - 1)
    inputs = replace(side.inputs, values=values[..., rows, :][..., columns])
    return replace(side, trace=side.tower.trace(inputs, lowest))


def _mean(paths: Sequence[PathSummary]) -> PathSummary:
    """Return one summary for the paths of all shifts: means of the scores, the maximum of the steps."""
    mean = {
        name: torch.stack([getattr(path, name) for path in paths]).mean(0)
        for name in ("at_input", "at_baseline", "sum")
    }
    most = torch.stack([path.steps for path in paths]).amax(0)
    return replace(paths[0], **mean, steps=most)
