"""Deletion (Petsiuk et al., 2018): remove units from the highest score down, and see how fast the score falls.

The number is the area under the score against the share of units removed: a faithful map has a small one. Ties are
removed in the order of the units.
"""

from dataclasses import dataclass

import torch

from nibt.masking import masker
from nibt.metrics.base import Metric, Trial
from nibt.types import PerExample, PerUnit
from nibt.units import Grid


@dataclass(frozen=True)
class Deletion(Metric):
    """``levels`` shares of the units, evenly from none to all, are removed in turn."""

    better = "lower"
    levels: int = 10

    def __call__(self, trial: Trial) -> PerExample:
        score = masker(trial.side, trial.attribution.units)
        ranks, counts = _ranks(trial)
        shares = torch.linspace(0, 1, self.levels + 1)
        curve = torch.stack([score((ranks >= (share * counts).round()[:, None]).float()) for share in shares])
        return torch.trapezoid(curve.float(), dim=0) / self.levels


def _ranks(trial: Trial) -> tuple[PerUnit, PerExample]:
    """The place of each unit in the order of removal, and how many units each example has."""
    scores, units = trial.attribution.scores, trial.attribution.units
    if isinstance(units, Grid):
        counts = torch.full((len(scores),), float(units.count))
    else:
        explained = units.explained.to(scores.device)
        scores, counts = scores.masked_fill(~explained, -torch.inf), explained.sum(-1).float().cpu()
    order = scores.argsort(dim=-1, descending=True, stable=True)
    return order.argsort(dim=-1).float(), counts.to(scores.device)


PART = Deletion
