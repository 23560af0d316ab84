"""The base class of deletion and insertion: the score while units are removed or inserted by decreasing score."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import ClassVar

import torch
from jaxtyping import Float
from torch import Tensor

from nibt.core.perturbation import masker
from nibt.data.units import Grid
from nibt.metrics._perturbation import PerturbationMetric
from nibt.metrics.base import MetricInput
from nibt.options import Levels
from nibt.types import Embedding, PerExample, PerUnit


@dataclass(frozen=True)
class CurveMetric(PerturbationMetric):
    """Base class of the areas under curves of removal and insertion.

    Args:
        levels: The number of steps from none to all of the units, of equal size.

    """

    inserted: ClassVar[bool]

    levels: Levels = 10

    def __call__(self, metric_input: MetricInput) -> PerExample:
        """Compute the area under the score as a function of the share of units that are removed or inserted."""
        return self.measured(metric_input)[0]

    def measured(self, metric_input: MetricInput) -> tuple[PerExample, Float[Tensor, "batch level"]]:
        """Compute the areas, and the scores at each share of the units, from none to all."""
        order, counts = ranks(metric_input)
        shares = torch.linspace(0, 1, self.levels + 1, dtype=torch.float32)
        kept = [(order < (share * counts).round()[:, None]) == self.inserted for share in shares]
        score = metric_input.side.score
        scores = torch.stack([score(level[None])[0] for level in self._embeddings(metric_input, kept)]).float()
        return torch.trapezoid(scores, dim=0) / self.levels, scores.T

    def _embeddings(self, metric_input: MetricInput, kept: Sequence[Tensor]) -> list[Embedding]:
        """Compute the embeddings for masks from none to all of the units, or the other way round.

        The first and the last are those of the whole and of the empty input, which all maps share.
        """
        side = replace(metric_input.side, score=lambda embeddings: embeddings)
        embed = masker(side, metric_input.attribution.units, hide=self.hide, seed=self.seed)
        first, *between, last = kept
        ends = [
            metric_input.once_for_all_methods(("end", self.hide, self.seed, is_full), partial(embed, keep.float()))
            for keep, is_full in ((first, not self.inserted), (last, self.inserted))
        ]
        return [ends[0], *(embed(keep.float()) for keep in between), ends[1]]


def ranks(metric_input: MetricInput) -> tuple[PerUnit, PerExample]:
    """Compute the rank of each unit in the order of removal, and the number of units of each example."""
    scores, units = metric_input.attribution.scores, metric_input.attribution.units
    if isinstance(units, Grid):
        counts = torch.full((len(scores),), float(units.count), dtype=torch.float32)
    else:
        explained = units.explained.to(scores.device)
        scores, counts = scores.masked_fill(~explained, -torch.inf), explained.sum(-1).float().cpu()
    order = scores.argsort(dim=-1, descending=True, stable=True)
    return order.argsort(dim=-1).float(), counts.to(scores.device)
