"""Confidence drop: how much of the score is lost when only what the map keeps is shown.

    drop = 100 max(0, S - S_kept)

The source is Chattopadhay et al. (2018), by way of the paper of NIB with its errors corrected. ``_confidence.py``
describes what is shown under the protocols ``correct`` and ``paper``.
"""

from dataclasses import dataclass

from typing_extensions import override

from nibt.metrics._confidence import Confidence
from nibt.metrics.base import MetricInput
from nibt.types import PerExample


@dataclass(frozen=True)
class ConfidenceDrop(Confidence):
    """The drop of the score when only what the map keeps is shown, times 100."""

    better = "lower"

    @override
    def __call__(self, metric_input: MetricInput) -> PerExample:
        score, kept = self.scores(metric_input)
        return 100 * (score - kept).clamp_min(0).float().cpu()


PLUGIN = ConfidenceDrop
