"""The score as units go, or come, from the highest score down: what deletion and insertion share."""

from dataclasses import dataclass
from typing import ClassVar

import torch
from jaxtyping import Float
from torch import Tensor

from nibt.core.perturbation import masker
from nibt.data.units import Grid
from nibt.errors import BadOption
from nibt.metrics._hiding import PerturbationMetric
from nibt.metrics.base import MetricInput
from nibt.types import PerExample, PerUnit


@dataclass(frozen=True)
class Curve(PerturbationMetric):
    """``levels`` shares of the units, evenly from none to all, are removed, or put in, in turn."""

    inserted: ClassVar[bool]

    levels: int = 10

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.levels < 1:
            raise BadOption(f"levels must be at least 1 (got {self.levels})")

    def __call__(self, trial: MetricInput) -> PerExample:
        """The area under the score against the share of units that were removed, or put in."""
        return self.measured(trial)[0]

    def measured(self, trial: MetricInput) -> tuple[PerExample, Float[Tensor, "batch level"]]:
        """The areas, and the scores at each share of the units, from none to all."""
        score = masker(trial.side, trial.attribution.units, hide=self.hide, seed=self.seed)
        ranks, counts = _ranks(trial)
        shares = torch.linspace(0, 1, self.levels + 1, dtype=torch.float32)
        kept = [(ranks < (share * counts).round()[:, None]) == self.inserted for share in shares]
        scores = torch.stack([score(keep.float()) for keep in kept]).float()
        return torch.trapezoid(scores, dim=0) / self.levels, scores.T


def _ranks(trial: MetricInput) -> tuple[PerUnit, PerExample]:
    """The place of each unit in the order of removal, and how many units each example has."""
    scores, units = trial.attribution.scores, trial.attribution.units
    if isinstance(units, Grid):
        counts = torch.full((len(scores),), float(units.count), dtype=torch.float32)
    else:
        explained = units.explained.to(scores.device)
        scores, counts = scores.masked_fill(~explained, -torch.inf), explained.sum(-1).float().cpu()
    order = scores.argsort(dim=-1, descending=True, stable=True)
    return order.argsort(dim=-1).float(), counts.to(scores.device)
