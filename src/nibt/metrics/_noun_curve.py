"""The base class of insertion and deletion of the patches of a noun."""

from dataclasses import dataclass
from typing import Annotated, ClassVar

import torch
from jaxtyping import Float
from torch import Tensor

from nibt.data.units import Grid
from nibt.metrics._coalitions import embeddings_of_patches, embeddings_of_words, on_patches
from nibt.metrics.base import Metric, RegionsInput
from nibt.options import Levels, OneOf
from nibt.types import PerExample


@dataclass(frozen=True)
class NounCurve(Metric[RegionsInput]):
    """Base class of the areas under curves of removal and insertion of patches by the map of a noun.

    Args:
        levels: The number of steps from no to all patches, of equal size.
        caption: The caption of the cosine: ``whole``, or the words of the ``noun`` only.

    """

    sides = ("regions",)
    inserted: ClassVar[bool]

    levels: Levels = 10
    caption: Annotated[str, OneOf(("whole", "noun"))] = "whole"

    def __call__(self, metric_input: RegionsInput) -> PerExample:
        """Compute the area under the cosine as a function of the share of patches that are removed or inserted."""
        return self.measured(metric_input)[0]

    def measured(self, metric_input: RegionsInput) -> tuple[PerExample, Float[Tensor, "batch level"]]:
        """Compute the means over nouns of the area, and of the cosines at each share of the patches."""
        grid, nouns, count = metric_input.image.units, metric_input.nouns, len(metric_input.regions.words)
        assert isinstance(grid, Grid)
        if not nouns:
            unknown = torch.full((1, self.levels + 1), torch.nan, dtype=torch.float32, device="cpu")
            return unknown[:, 0], unknown
        table = on_patches(metric_input.regions, grid)
        shares = torch.linspace(0, 1, self.levels + 1, dtype=torch.float32, device="cpu")
        limits = (shares * grid.count).round()[:, None]
        patches, words = [], torch.zeros(len(nouns), count, dtype=torch.float32, device="cpu")
        for place, noun in enumerate(nouns):
            order = table[list(noun.words)].sum(0).argsort(descending=True, stable=True).argsort()
            patches.append((order < limits) == self.inserted)
            words[place, list(noun.words)] = 1.0
        if self.caption == "whole":
            words[:] = 1.0
        image = embeddings_of_patches(metric_input.image, torch.cat(patches).float())
        text = embeddings_of_words(metric_input.text, metric_input.regions, words)
        scores = (image.unflatten(0, (len(nouns), -1)) * text[:, None]).sum(-1).mean(0)
        return (torch.trapezoid(scores) / self.levels)[None], scores[None]
