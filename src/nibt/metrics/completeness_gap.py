"""How far the scores are from adding up: the gap between their sum and what narrowing took away, as a share of that
(of 0.01 where there is hardly a change). NaN for methods that do not narrow.
"""

from dataclasses import dataclass

import torch
from typing_extensions import override

from nibt.metrics.base import Metric, MetricInput
from nibt.results.attribution import allowed
from nibt.types import PerExample


@dataclass(frozen=True)
class CompletenessGap(Metric):
    better = "lower"

    @override
    def __call__(self, trial: MetricInput) -> PerExample:
        told = trial.attribution.path
        if told is None:
            return torch.full((len(trial.attribution.scores),), torch.nan, dtype=torch.float32)
        return (told.gap.abs() / allowed(told.at_input - told.at_baseline, 1.0)).float().cpu()


PLUGIN = CompletenessGap
