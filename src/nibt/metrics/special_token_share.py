"""The share of the absolute score on rows without a unit, from 0 to 1.

These rows are class, start, end and padding tokens.

Range:
    0 to 1

Forward passes:
    none

Use it when:
    You choose a layer or a method: above one half, the map shows the smaller part.

Avoid it when:
    You rank methods: no direction is better.

Source:
    nibt
"""

from dataclasses import dataclass

from nibt.metrics.base import Metric, MetricInput
from nibt.types import PerExample


@dataclass(frozen=True)
class SpecialShare(Metric):
    """The share of the absolute score on rows without a unit."""

    better = "neither"
    bounds = (0.0, 1.0)

    def __call__(self, metric_input: MetricInput) -> PerExample:
        return metric_input.attribution.special_token_share.float().cpu()


PLUGIN = SpecialShare
