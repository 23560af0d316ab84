"""The score as units go, or come, from the highest score down: what deletion and insertion share."""

import torch

from nibt.masking import masker
from nibt.metrics.base import Trial
from nibt.types import PerExample, PerUnit
from nibt.units import Grid


def area(trial: Trial, levels: int, inserted: bool) -> PerExample:
    """The area under the score against the share of units that were removed, or put in, in ``levels`` even steps."""
    score = masker(trial.side, trial.attribution.units)
    ranks, counts = _ranks(trial)
    shares = torch.linspace(0, 1, levels + 1)
    kept = [(ranks < (share * counts).round()[:, None]) == inserted for share in shares]
    return torch.trapezoid(torch.stack([score(keep.float()) for keep in kept]).float(), dim=0) / levels


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
