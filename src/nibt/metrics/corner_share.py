"""The share of the absolute score that lies on the four corner patches: what reviewers of the paper asked about.

An even map has four times one over the number of patches.
"""

from dataclasses import dataclass

from typing_extensions import override

from nibt.metrics.base import Metric, MetricInput
from nibt.types import PerExample


@dataclass(frozen=True)
class CornerShare(Metric):
    better = "neither"
    sides = ("image",)

    @override
    def __call__(self, trial: MetricInput) -> PerExample:
        size = trial.attribution.grid.abs()
        corners = size[:, [0, 0, -1, -1], [0, -1, 0, -1]].sum(-1)
        return (corners / size.sum((-2, -1)).clamp_min(1e-30)).float().cpu()


PLUGIN = CornerShare
