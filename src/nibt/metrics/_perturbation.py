"""The base classes of metrics that remove units, and of the score while they go or come by decreasing score."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Annotated, ClassVar

import torch
from jaxtyping import Float
from torch import Tensor

from nibt.core.perturbation import HIDES, masker
from nibt.data.units import Grid
from nibt.metrics.base import AreaMetric, Metric, MetricInput
from nibt.options import Levels, OneOf, Seed
from nibt.types import Embedding, PerExample, PerUnit


@dataclass(frozen=True)
class PerturbationMetric(Metric):
    """Base class of metrics that remove parts of the input.

    Args:
        hide: What replaces parts of an image: ``mean``, ``blur`` or ``noise``.
        seed: The seed of random draws.
    """

    hide: Annotated[str, OneOf(HIDES)] = field(default="mean", kw_only=True)
    seed: Seed = field(default=0, kw_only=True)


@dataclass(frozen=True)
class CurveMetric(AreaMetric, PerturbationMetric):
    """Base class of the areas under curves of removal and insertion.

    Args:
        levels: The number of steps from none to all of the units, of equal size.
    """

    inserted: ClassVar[bool]

    levels: Levels = 10

    def curve(self, metric_input: MetricInput) -> Float[Tensor, "batch level"]:
        """Compute the scores at each share of the units that is removed or inserted, from none to all."""
        order, counts = ranks(metric_input)
        shares = torch.linspace(0, 1, self.levels + 1, dtype=torch.float32)
        kept = [(order < (share * counts).round()[:, None]) == self.inserted for share in shares]
        score = metric_input.side.score
        return torch.stack([score(level[None])[0] for level in self._embeddings(metric_input, kept)]).float().T

    def _embeddings(self, metric_input: MetricInput, kept: Sequence[Tensor]) -> list[Embedding]:
        """Compute the embeddings for masks; all maps share the first and the last, of all and of no units."""
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
