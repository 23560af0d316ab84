"""Additive share: how much of the cosine of partly visible pairs needs no table.

It is the share of the variance of the cosines of all pairs of coalitions that a score of the visible patches plus a
score of the visible words can explain.

Range:
    0 to 1

Forward passes:
    2 x ``coalitions``, 128, shared by all tables of a pair

Use it when:
    You want to know how much a table can add to two maps.

Avoid it when:
    You compare tables: it does not depend on them.

Source:
    nibt (two-way analysis of variance)
"""

from dataclasses import dataclass

import torch

from nibt.metrics._coalitions import CoalitionMetric
from nibt.metrics.base import RegionsInput
from nibt.types import PerExample


@dataclass(frozen=True)
class AdditiveShare(CoalitionMetric):
    """The share of the variance that the two sides explain without each other."""

    better = "neither"
    bounds = (0.0, 1.0)

    def __call__(self, metric_input: RegionsInput) -> PerExample:
        actual, crossed, _ = self.scores(metric_input)
        total = (actual - actual.mean()).square().sum()
        return (1 - crossed.square().sum() / total.where(total > 0, torch.nan))[None]


PLUGIN = AdditiveShare
