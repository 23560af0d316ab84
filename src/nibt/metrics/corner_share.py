"""The share of the absolute score on the four corner patches, from 0 to 1.

Range:
    0 to 1; a uniform map has 4 / number of patches

Forward passes:
    none

Use it when:
    You suspect that background patches store global information (Darcet et al., ICLR 2024).

Avoid it when:
    You rank methods: objects may lie in corners, and no direction is better.

Source:
    the reviews of NIB's paper
"""

from dataclasses import dataclass

from nibt.metrics.base import Metric, MetricInput
from nibt.types import PerExample


@dataclass(frozen=True)
class CornerShare(Metric):
    """The share of the absolute score on the four corner patches."""

    better = "neither"
    bounds = (0.0, 1.0)
    sides = ("image",)

    def __call__(self, metric_input: MetricInput) -> PerExample:
        size = metric_input.attribution.grid.abs()
        corners = size[:, [0, 0, -1, -1], [0, -1, 0, -1]].sum(-1)
        return (corners / size.sum((-2, -1)).clamp_min(1e-30)).float().cpu()


PLUGIN = CornerShare
