"""The base class of insertion and deletion of word-patch pairs."""

from dataclasses import dataclass
from typing import ClassVar

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from nibt.data.units import Grid
from nibt.options import Levels
from nibt.table_metrics._coalitions import embeddings_of_patches, embeddings_of_words
from nibt.table_metrics.base import TableInput, TableMetric


@dataclass(frozen=True)
class PairCurve(TableMetric):
    """Base class of the areas under curves of removal and insertion of pairs.

    Args:
        levels: The number of steps from no to all words and patches, of equal size.

    """

    inserted: ClassVar[bool]

    levels: Levels = 10

    def __call__(self, table_input: TableInput) -> float:
        """Compute the area under the cosine as a function of the share of units that are removed or inserted."""
        words, patches = _first_places(table_input)
        count = words.numel() + patches.numel()
        shares = torch.linspace(0, 1, self.levels + 1, dtype=torch.float32, device="cpu")
        limits = (shares * count).round()[:, None]
        kept = [(places < limits) == self.inserted for places in (words, patches)]
        text = embeddings_of_words(table_input.text, table_input.table, kept[0].float())
        image = embeddings_of_patches(table_input.image, kept[1].float())
        scores = (text * image).sum(-1)
        return float(torch.trapezoid(scores) / self.levels)


def _first_places(table_input: TableInput) -> tuple[Float[Tensor, " word"], Float[Tensor, " patch"]]:
    """Return the place of each word and of each patch in the order in which pairs bring them in.

    Pairs come by decreasing score, and a pair brings in its word and its patch, unless they are in already.
    """
    grid, table = table_input.image.units, table_input.table.table
    assert isinstance(grid, Grid)
    cells = F.adaptive_avg_pool2d(table, (grid.rows, grid.columns)).flatten(1)
    places: tuple[dict[int, int], dict[int, int]] = {}, {}
    for pair in cells.flatten().argsort(descending=True, stable=True).tolist():
        for order, unit in zip(places, divmod(pair, grid.count), strict=True):
            if unit not in order:
                order[unit] = len(places[0]) + len(places[1])
    return tuple(
        torch.tensor([order[unit] for unit in range(len(order))], dtype=torch.float32, device="cpu") for order in places
    )  # pyright: ignore[reportReturnType]
