"""Whether a word that names what is not in the image has a negative score: the share of such words, from 0 to 1.

Evidence against ought to be negative; a method without a sign has 0.
"""

from dataclasses import dataclass

import torch
from typing_extensions import override

from nibt.metrics.base import Metric, MetricInput, word_table
from nibt.types import PerExample


@dataclass(frozen=True)
class AbsentWords(Metric):
    better = "higher"
    sides = ("text",)

    @override
    def __call__(self, trial: MetricInput) -> PerExample:
        return torch.tensor(
            [
                torch.nan
                if truth.absent is None or not truth.absent.any()
                else float((word_table(trial, item)[truth.absent] < 0).float().mean())
                for item, truth in enumerate(trial.truths)
            ],
            dtype=torch.float32,
        )


PLUGIN = AbsentWords
