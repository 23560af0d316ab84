"""Changes of nibt that the study of views compares with what nibt does; each is undone afterwards.

``fill`` says what a view shows beyond the image: ``edge`` repeats the
pixels of the edge, ``reflect`` mirrors the image there. ``finest`` is the largest number of cells per unit. ``blend``
says how the maps of the views become one: ``bilinear`` resizes each map to the pixels, moves it, and takes the mean;
``smoothed`` smooths nibt's fine map with a triangle of one unit; ``least squares`` is the fine map of the smallest
norm whose sums over the units of the views are nearest to their scores; ``keeping sums`` lets the outer units of each
view reach to the edges of the image, so that no score is left out, but a flat map is not flat.
"""

from contextlib import ExitStack, contextmanager
from functools import cache
from unittest.mock import patch

import torch
import torch.nn.functional as F

from nibt.data.units import Grid
from nibt.methods import _views
from nibt.preprocessing.images import Surroundings

_PADDING = {"edge": "replicate", "reflect": "reflect"}
_RIDGE = 1e-2


@contextmanager
def changed(changes):
    """Make the changes inside ``with``."""
    with ExitStack() as stack:
        for name, value in changes.items():
            stack.enter_context(_PATCHES[name](value))
        yield


def _fill(mode):
    def pixels(self, margin):
        return F.pad(self.preparation.pixels(self.image)[None], (margin,) * 4, mode=_PADDING[mode])[0]

    return patch.object(Surroundings, "pixels", pixels)


def _blend(kind):
    return patch.object(_views.Views, "blend", _BLENDS[kind](_views.Views.blend))


def _bilinear(_):
    def blend(views, maps, units):
        height, width = views.side.tower.extent(views.side.inputs)
        parts = []
        for grid, (down, right) in zip(units.unfold(maps), views.shifts, strict=True):
            pixels = F.interpolate(grid[:, None], (height, width), mode="bilinear")[:, 0]
            wide = F.pad(pixels, (abs(right),) * 2 + (abs(down),) * 2, mode="replicate")
            top, left = abs(down) - down, abs(right) - right
            parts.append(wide[:, top : top + height, left : left + width])
        return torch.stack(parts).mean(0).flatten(1), Grid(height, width)

    return blend


def _smoothed(inner):
    def blend(views, maps, units):
        fine, grid = inner(views, maps, units)
        cells = grid.rows // units.rows
        line = 1 - (torch.arange(1 - cells, cells) / cells).abs()
        kernel = (line[:, None] * line)[None, None] / cells**2
        wide = F.pad(grid.unfold(fine)[:, None], (cells - 1,) * 4, mode="replicate")
        return F.conv2d(wide, kernel.to(fine)).flatten(1), grid

    return blend


def _keeping_sums(_):
    def blend(views, maps, units):
        cells = min(len(views.shifts), _views.FINEST)
        height, width = views.side.tower.extent(views.side.inputs)
        parts = []
        for grid, (down, right) in zip(units.unfold(maps), views.shifts, strict=True):
            rows = _spread(units.rows, cells, down * units.rows / height).to(grid)
            columns = _spread(units.columns, cells, right * units.columns / width).to(grid)
            parts.append(rows @ grid @ columns.T)
        return torch.stack(parts).mean(0).flatten(1), Grid(units.rows * cells, units.columns * cells)

    return blend


def _spread(units, cells, shift):
    """The share of each unit in each fine cell, where the outer units extend to the edges."""
    edges = torch.arange(units + 1, dtype=torch.float64) + shift
    edges[0], edges[-1] = 0, units
    lines = torch.arange(units * cells + 1, dtype=torch.float64) / cells
    low, high = torch.maximum(lines[:-1, None], edges[:-1]), torch.minimum(lines[1:, None], edges[1:])
    return (high - low).clamp_min(0) / (edges[1:] - edges[:-1])


def _least_squares(_):
    def blend(views, maps, units):
        cells = min(len(views.shifts), _views.FINEST)
        height, width = views.side.tower.extent(views.side.inputs)
        parts = [(down * units.rows / height, right * units.columns / width) for down, right in views.shifts]
        solution = _solution(units.rows, units.columns, cells, tuple(parts)).to(maps)
        fine = torch.einsum("cvu,vbu->bc", solution, maps)
        return fine, Grid(units.rows * cells, units.columns * cells)

    return blend


@cache
def _solution(rows, columns, cells, shifts):
    """The matrix from the scores of all views to the fine cells: (cell, view, unit)."""
    sums = []
    for down, right in shifts:
        tall, wide = _overlap(rows, cells, down), _overlap(columns, cells, right)
        sums.append(torch.kron(tall.T.contiguous(), wide.T.contiguous()))  # units x fine cells
    matrix = torch.cat(sums)
    gram = matrix @ matrix.T
    ridge = _RIDGE * gram.diagonal().mean() * torch.eye(len(gram), dtype=torch.float64)
    return (matrix.T @ torch.linalg.inv(gram + ridge)).unflatten(1, (len(shifts), -1))


def _overlap(units, cells, shift):
    """The share of each fine cell that lies on each unit."""
    spread = _spread(units, cells, shift)
    return spread / spread.sum(1, keepdim=True)


_BLENDS = {"bilinear": _bilinear, "smoothed": _smoothed, "least squares": _least_squares, "keeping sums": _keeping_sums}
_PATCHES = {
    "finest": lambda cells: patch.object(_views, "FINEST", cells),
    "fill": _fill,
    "blend": _blend,
}
