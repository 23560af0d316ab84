"""Completeness gap: the sum of the scores minus the change of the target, relative to that change.

A change below 0.01 counts as 0.01. The result is never negative; it is NaN for methods without a path.

Range:
    0 and up

Use it when:
    You want to say that a part contributed a share of the score.

Avoid it when:
    You judge a map by it: a poor map can be complete.

Source:
    Sundararajan et al., ICML 2017, as an error
"""

from dataclasses import dataclass

import torch

from nibt.metrics.base import Metric, MetricInput
from nibt.results.attribution import allowed
from nibt.types import PerExample


@dataclass(frozen=True)
class CompletenessGap(Metric):
    """The absolute completeness gap, relative to the change of the score."""

    better = "lower"

    def __call__(self, metric_input: MetricInput) -> PerExample:
        path = metric_input.attribution.path
        if path is None:
            return torch.full((len(metric_input.attribution.scores),), torch.nan, dtype=torch.float32)
        return (path.gap.abs() / allowed(path.at_input - path.at_baseline, 1.0)).float().cpu()
