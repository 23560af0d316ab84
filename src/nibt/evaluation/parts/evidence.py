"""The cells of many images that carry their positive scores, and the hidden states that describe them."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from jaxtyping import Float, Int

from nibt.data.images import ImageInput, Region
from nibt.data.units import Grid
from nibt.engine.encode import groups_of, within_memory
from nibt.errors import BadInput, BadOption
from nibt.evaluation.maps import Map
from nibt.models.base import Model

KEPT = 0.6
"""The cells of an image are those that hold this share of its positive score, the largest first."""


@dataclass(frozen=True, eq=False)
class Cells:
    """The cells that carry the positive scores of images.

    Attributes:
        images: The position of the image of each cell.
        places: The position of each cell in the grid, in row-major order.
        weights: The share of the positive score of its image that each cell has.
        states: The hidden state of each cell, (cell, dim).
        shape: The rows and columns of the grid.
        regions: The part of each image that the grid covers.
    """

    images: Int[np.ndarray, " cell"]
    places: Int[np.ndarray, " cell"]
    weights: Float[np.ndarray, " cell"]
    states: Float[np.ndarray, "cell dim"]
    shape: tuple[int, int]
    regions: tuple[Region, ...]

    @cached_property
    def means(self) -> Float[np.ndarray, " dim"]:
        """The mean of each channel of the states."""
        return self.states.mean(0)

    @cached_property
    def deviations(self) -> Float[np.ndarray, " dim"]:
        """The standard deviation of each channel."""
        return self.states.std(0) + 1e-6

    @cached_property
    def points(self) -> Float[np.ndarray, "cell dim"]:
        """The standardized states."""
        return (self.states - self.means) / self.deviations

    def of_images(self, chosen: np.ndarray) -> dict[int, np.ndarray]:
        """Return the weights of chosen cells, by the positions of their images: 0 on other cells, rows x columns."""
        grids: dict[int, np.ndarray] = {}
        for cell in chosen.tolist():
            grid = grids.setdefault(int(self.images[cell]), np.zeros(self.shape))
            grid.flat[self.places[cell]] = self.weights[cell]
        return grids


def evidence_cells(
    model: Model, images: Sequence[ImageInput], maps: Sequence[Map], layer: int, batch: int, method: str
) -> Cells:
    """Find the cells that hold 60 % of the positive score of each image, with their hidden states at a layer.

    Raises:
        BadInput: No image has a positive score, or images have grids of several sizes.
        BadOption: No blocks of cells of the maps are the cells of the layer.
    """
    shapes = sorted({image_map.scores.shape for image_map in maps})
    if len(shapes) > 1:
        sizes = " and ".join(f"{rows} x {columns}" for rows, columns in shapes[:2])
        raise BadInput(
            f"parts needs images that the model cuts to one grid (got {sizes} cells): resize them to one size, "
            "as -D square=448 does for folders and public data sets"
        )

    shape = _grid_of(model, images[0], layer)
    scores = [_on_cells(image_map.scores, shape, method, layer) for image_map in maps]
    shares = [positive_shares(of_cells) for of_cells in scores]
    kept = [largest_places(share) for share in shares]
    if not any(map(len, kept)):
        raise BadInput(
            f"no image has a positive score (got {len(maps)} maps without one), so nothing speaks for the captions: "
            "check that each caption is that of its image, or use a signed method such as nib:fast"
        )

    states: dict[int, np.ndarray] = {}
    regions: dict[int, Region] = {}
    owner = f"the maps of {method!r}"
    remedy = "resize the images to one size"
    for item, of_cells, region in cell_states(model, images, layer, shape, batch, owner, remedy):
        states[item] = of_cells[kept[item]]
        regions[item] = region

    return Cells(
        images=np.repeat(np.arange(len(maps)), [len(places) for places in kept]),
        places=np.concatenate(kept),
        weights=np.concatenate([share.ravel()[places] for share, places in zip(shares, kept, strict=True)]),
        states=np.concatenate([states[item] for item in range(len(maps))]),
        shape=shape,
        regions=tuple(regions[item] for item in range(len(maps))),
    )


@torch.no_grad()
def _grid_of(model: Model, image: ImageInput, layer: int) -> tuple[int, int]:
    """Return the rows and columns of the cells of an image at a layer."""
    tower = model.image
    tower.check_layer(layer)
    units = tower.trace(tower.prepare([image]), layer).cut(layer).units
    if not isinstance(units, Grid):
        raise BadOption(f"layer {layer} of this model has no cells: choose another layer")
    return units.shape


def _on_cells(scores: np.ndarray, shape: tuple[int, int], method: str, layer: int) -> Float[np.ndarray, "row column"]:
    """Return the scores of a map on the cells of a layer, of which each has a block of cells of the map."""
    rows, columns = shape
    down = scores.shape[0] // rows
    across = scores.shape[1] // columns
    if scores.shape != (down * rows, across * columns):
        raise BadOption(
            f"the maps of {method!r} have {scores.shape[0]} x {scores.shape[1]} cells, and layer {layer} of this model "
            f"has {rows} x {columns}: choose another layer, or a method without cells of its own"
        )
    return scores.reshape(rows, down, columns, across).sum((1, 3))


@torch.no_grad()
def cell_states(
    model: Model, images: Sequence[ImageInput], layer: int, shape: tuple[int, ...], batch: int, owner: str, remedy: str
) -> Iterator[tuple[int, Float[np.ndarray, "cell dim"], Region]]:
    """Yield the position of each image, in any order, with the states of its cells at a layer, and what they cover.

    Args:
        model: The model.
        images: The images.
        layer: The layer.
        shape: The rows and columns that its cells must have.
        batch: The largest number of images that go through the model together.
        owner: What has cells of this shape, as in "the parts".
        remedy: What to do if those of the layer have another one.
    """
    tower = model.image
    tower.check_layer(layer)

    def computed(indices: Sequence[int]) -> tuple[np.ndarray, tuple[Region, ...]]:
        inputs = tower.prepare([images[index] for index in indices])
        cut = tower.trace(inputs, layer).cut(layer)
        if not isinstance(cut.units, Grid) or cut.units.shape != shape:
            got = " x ".join(map(str, cut.units.shape)) if isinstance(cut.units, Grid) else "no"
            raise BadOption(
                f"{owner} have {shape[0]} x {shape[1]} cells, and layer {layer} of this model has {got}: {remedy}"
            )

        count, _, width = cut.hidden.shape
        of_units = cut.units.keep(cut.hidden.float().movedim(-1, 0).flatten(0, 1))  # each channel as if it were a score
        return of_units.unflatten(0, (width, count)).movedim(0, -1).cpu().numpy(), inputs.regions

    for indices, (states, regions) in within_memory(
        groups_of([tower.group(image) for image in images], batch), computed
    ):
        yield from zip(indices, states, regions, strict=True)


def positive_shares(scores: np.ndarray) -> np.ndarray:
    """Return the share of the positive score on each cell, or word; 0 if no score is positive."""
    positive = scores.clip(0)
    return positive / max(float(positive.sum()), 1e-30)


def largest_places(shares: np.ndarray) -> Int[np.ndarray, " cell"]:
    """Return the places of the largest cells, or words, that hold 60 % together."""
    order = np.argsort(-shares.ravel(), kind="stable")
    before = np.cumsum(shares.ravel()[order]) - shares.ravel()[order]
    return order[(before < KEPT) & (shares.ravel()[order] > 0)]
