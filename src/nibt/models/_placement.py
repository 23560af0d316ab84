"""Whether each cell of a map is drawn where the model sees it: one cell of an image is painted when a model is loaded.

The state of a painted cell must change more than those of all others. It is compared at the first tokens, before blocks
mix them. A decoder reads the output of a vision encoder, whose blocks are skipped here for that reason.
"""

from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from math import ceil

import torch
from PIL import Image
from torch import Tensor

from nibt.data.images import ImageInput, Region
from nibt.data.units import Grid, cells_of
from nibt.errors import CannotLoad
from nibt.models._inputs import Inputs
from nibt.models.base import ImageTower
from nibt.types import Hidden

_CELL = 8  # the least side of a painted cell in pixels of the image
_NEAR = 0.75  # cells between a painted cell and the center of the change, where patches overlap
_NEAR_IN_FEATURE_MAPS = 2.0  # whose cells have a few pixels, and see many around them
_PAINT = (255, 0, 0)

Prepare = Callable[[ImageInput], Inputs]
"""Prepares one image for a tower."""


class _Seen(Exception):
    """The first tokens were seen, and the rest of the forward pass is not needed."""


@dataclass(frozen=True)
class _Seeing:
    """The first tokens of an image, and where their cells are."""

    states: Hidden
    grid: Grid
    region: Region


def check_placement(name: str, tower: ImageTower, picture: Image.Image, prepare: Prepare) -> None:
    """Check that painting one cell of a picture changes the state of that cell most."""
    picture, seen = _enlarged(tower, picture, prepare)
    cell = next(_cells_inside(seen, picture.size), None)
    if cell is None:  # all cells are partly padding
        return

    painted = picture.copy()
    painted.paste(_PAINT, _box(seen, *cell))
    change = (_see(tower, painted, prepare).states - seen.states).float().norm(dim=-1)[0]
    row, column = cell
    near = _NEAR if tower.positional else _NEAR_IN_FEATURE_MAPS
    if _is_at(change, seen.grid, row, column, near):
        return

    most = int(change.argmax())
    tokens = seen.grid.tokens
    changed = "a special token" if most not in tokens else "row {} and column {}".format(*_place(seen.grid, most))
    raise CannotLoad(
        f"the maps of the model {name!r} would be drawn at wrong places: a change of the image at row {row + 1} and "
        f"column {column + 1} of its {seen.grid.rows} x {seen.grid.columns} cells changes the state of {changed} most. "
        "Use the processor that was saved with the model, or report the name of the model"
    )


def _place(grid: Grid, token: int) -> tuple[int, int]:
    row, column = divmod(grid.tokens.index(token), grid.columns)
    return row + 1, column + 1


def _enlarged(tower: ImageTower, picture: Image.Image, prepare: Prepare) -> tuple[Image.Image, _Seeing]:
    """Return the picture, enlarged if its cells have few pixels, and what the tower sees of it."""
    seen = _see(tower, picture, prepare)
    least = min(seen.region.width / seen.grid.columns, seen.region.height / seen.grid.rows)
    if least >= _CELL:
        return picture, seen

    times = ceil(_CELL / least)
    width, height = picture.size
    picture = picture.resize((width * times, height * times), Image.Resampling.NEAREST)
    return picture, _see(tower, picture, prepare)


def _see(tower: ImageTower, picture: Image.Image, prepare: Prepare) -> _Seeing:
    """Run the model up to its first tokens."""
    inputs = prepare(ImageInput(picture, "a check of places"))
    streams: list[Tensor] = []

    def see(stream: Tensor) -> None:
        streams.append(stream)
        raise _Seen

    with torch.no_grad(), tower.computing(), tower.unmixed(), tower.on_first_tokens(see), suppress(_Seen):
        tower.run(inputs)
    stream = streams[0]
    return _Seeing(tower.to_tokens(stream), cells_of(tower.units(inputs, stream)), inputs.regions[0])


def _box(seen: _Seeing, row: int, column: int) -> tuple[int, int, int, int]:
    """Return the pixels of a cell: left, top, right, bottom."""
    region = seen.region
    grid = seen.grid
    width = region.width / grid.columns
    height = region.height / grid.rows
    left = region.left + column * width
    top = region.top + row * height
    return round(left), round(top), round(left + width), round(top + height)


def _cells_inside(seen: _Seeing, size: tuple[int, int]) -> Iterator[tuple[int, int]]:
    """Yield cells without padding, first those that are elsewhere if rows and columns are mirrored or swapped."""
    grid = seen.grid
    rows = sorted(range(grid.rows), key=lambda row: abs(row - grid.rows // 3))
    columns = sorted(range(grid.columns), key=lambda column: abs(column - 2 * grid.columns // 3))
    for row in rows:
        for column in columns:
            left, top, right, bottom = _box(seen, row, column)
            if left >= 0 and top >= 0 and right <= size[0] and bottom <= size[1]:
                yield row, column


def _is_at(change: Tensor, grid: Grid, row: int, column: int, near: float) -> bool:
    """Return whether a change by token is at a cell: there most, or around it."""
    tokens = list(grid.tokens)
    overview = list(grid.overview.tokens) if grid.overview else []
    others = change.clone()
    others[overview] = 0
    if not others.any():
        return True  # nothing says where
    if others.argmax() == tokens[row * grid.columns + column]:
        return True

    # where the first layers overlap, a cell beside the painted one may change more
    weights = grid.unfold(change[tokens] ** 2)
    others[tokens] = 0
    if others.any():
        return False

    across = (weights.sum(0) * torch.arange(grid.columns, device=weights.device)).sum() / weights.sum()
    down = (weights.sum(1) * torch.arange(grid.rows, device=weights.device)).sum() / weights.sum()
    return bool((across - column).abs() <= near and (down - row).abs() <= near)
