"""The base class of insertion and deletion of word-patch pairs."""

from dataclasses import dataclass
from typing import ClassVar

import torch
from jaxtyping import Float
from torch import Tensor

from nibt.data.units import Grid
from nibt.metrics._coalitions import embeddings_of_patches, embeddings_of_words, on_patches
from nibt.metrics.base import Metric, RegionsInput
from nibt.options import Levels
from nibt.types import PerExample


@dataclass(frozen=True)
class PairCurve(Metric[RegionsInput]):
    """Base class of the areas under curves of removal and insertion of pairs.

    Args:
        levels: The number of steps from no to all words and patches, of equal size.

    """

    sides = ("regions",)
    inserted: ClassVar[bool]

    levels: Levels = 10

    def __call__(self, metric_input: RegionsInput) -> PerExample:
        """Compute the area under the cosine as a function of the share of units that are removed or inserted."""
        return self.measured(metric_input)[0]

    def measured(self, metric_input: RegionsInput) -> tuple[PerExample, Float[Tensor, "batch level"]]:
        """Compute the area, and the cosines at each share of the units, from none to all."""
        words, patches = _first_places(metric_input)
        count = words.numel() + patches.numel()
        shares = torch.linspace(0, 1, self.levels + 1, dtype=torch.float32, device="cpu")
        limits = (shares * count).round()[:, None]
        kept = [(places < limits) == self.inserted for places in (words, patches)]
        text = embeddings_of_words(metric_input.text, metric_input.regions, kept[0].float())
        image = embeddings_of_patches(metric_input.image, kept[1].float())
        scores = (text * image).sum(-1)
        return (torch.trapezoid(scores) / self.levels)[None], scores[None]


def _first_places(metric_input: RegionsInput) -> tuple[Float[Tensor, " word"], Float[Tensor, " patch"]]:
    """Return the place of each word and of each patch in the order in which pairs bring them in.

    Pairs come by decreasing score, and a pair brings in its word and its patch, unless they are in already.
    """
    grid = metric_input.image.units
    assert isinstance(grid, Grid)
    cells = on_patches(metric_input.regions, grid)
    places: tuple[dict[int, int], dict[int, int]] = {}, {}
    for pair in cells.flatten().argsort(descending=True, stable=True).tolist():
        for order, unit in zip(places, divmod(pair, grid.count), strict=True):
            if unit not in order:
                order[unit] = len(places[0]) + len(places[1])
    return tuple(
        torch.tensor([order[unit] for unit in range(len(order))], dtype=torch.float32, device="cpu") for order in places
    )  # pyright: ignore[reportReturnType]
