"""The share of the absolute score that lies on rows which stand for no unit: class, start, end and padding tokens."""

from dataclasses import dataclass

from typing_extensions import override

from nibt.metrics.base import Metric, MetricInput
from nibt.types import PerExample


@dataclass(frozen=True)
class SpecialShare(Metric):
    better = "neither"

    @override
    def __call__(self, trial: MetricInput) -> PerExample:
        return trial.attribution.special_share.float().cpu()


PLUGIN = SpecialShare
