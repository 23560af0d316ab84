"""Confidence drop (Chattopadhay et al., 2018, as in the paper, with its mistakes mended): what the score loses when
only what the map keeps is shown, 100 max(0, S - S_kept).

Pixels are scaled by the map, stretched to [0, 1], after normalising, so that nothing is the mean colour; words as
their embeddings, by position, toward the padding token's, scores stretched over the words only.
"""

from dataclasses import dataclass

from nibt.metrics.base import Metric, Trial
from nibt.types import PerExample


@dataclass(frozen=True)
class ConfidenceDrop(Metric):
    better = "lower"

    def __call__(self, trial: Trial) -> PerExample:
        return 100 * (trial.side.value() - trial.kept).clamp_min(0).float().cpu()


PART = ConfidenceDrop
