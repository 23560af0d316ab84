"""Confidence drop (Chattopadhay et al., 2018, as in the paper, with its mistakes mended): what the score loses when
only what the map keeps is shown, 100 max(0, S - S_kept).

What is shown is said in ``base_confidence``, for the protocols ``correct`` and ``paper``.
"""

from dataclasses import dataclass

from typing_extensions import override

from nibt.metrics._confidence import Confidence
from nibt.metrics.base import MetricInput
from nibt.types import PerExample


@dataclass(frozen=True)
class ConfidenceDrop(Confidence):
    better = "lower"

    @override
    def __call__(self, trial: MetricInput) -> PerExample:
        score, kept = self.scores(trial)
        return 100 * (score - kept).clamp_min(0).float().cpu()


PLUGIN = ConfidenceDrop
