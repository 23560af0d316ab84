"""The place of each part among the hidden states of a layer, by which its cells are found in other images."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch

from nibt.data.images import ImageInput, Region
from nibt.evaluation.parts.clusters import nearest_within
from nibt.evaluation.parts.evidence import cell_states
from nibt.models.base import Model
from nibt.results.parts import Parts


@dataclass(frozen=True, eq=False)
class Space:
    """Where parts are among the hidden states of a layer.

    Attributes:
        layer: The layer.
        shape: The rows and columns of its cells.
        means: The mean of each channel.
        deviations: The standard deviation of each channel.
        centers: The center of each part, (part, dim).
        reaches: The distance from the center within which its cells are.
    """

    layer: int
    shape: tuple[int, int]
    means: np.ndarray
    deviations: np.ndarray
    centers: np.ndarray
    reaches: np.ndarray

    @classmethod
    def of(cls, parts: Parts) -> "Space":
        """Return the space of a result."""
        return cls(
            parts.layer,
            parts.grid,
            parts.means.numpy(),
            parts.deviations.numpy(),
            torch.stack([part.center for part in parts.parts]).numpy(),
            np.array([part.reach for part in parts.parts]),
        )


def located(
    model: Model, images: Sequence[ImageInput], space: Space, batch_size: int
) -> Iterator[tuple[int, np.ndarray, Region]]:
    """Yield the position of each image, in any order, with the part of each of its cells, and what cells cover.

    A cell belongs to the part with the nearest center, or to none (-1) if 90 % of the part's own cells are nearer.
    """
    remedy = "load the model as it was when the parts were found, or find the parts again"
    for item, states, region in cell_states(model, images, space.layer, space.shape, batch_size, "the parts", remedy):
        numbers = nearest_within((states - space.means) / space.deviations, space.centers, space.reaches)
        yield item, numbers.reshape(space.shape), region
