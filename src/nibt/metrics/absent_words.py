"""The share of words for absent objects whose score is negative, from 0 to 1.

Range:
    0 to 1

Forward passes:
    none

Use it when:
    You rely on the sign of words. Report the share of present words that are positive as well.

Avoid it when:
    The method has no sign. A method that makes every word negative has 1.

Source:
    nibt
"""

from dataclasses import dataclass

import torch

from nibt.metrics.base import Metric, MetricInput, word_table
from nibt.types import PerExample


@dataclass(frozen=True)
class AbsentWords(Metric):
    """The share of words for absent objects whose score is negative."""

    better = "higher"
    bounds = (0.0, 1.0)
    sides = ("text",)

    def __call__(self, metric_input: MetricInput) -> PerExample:
        return torch.tensor(
            [
                torch.nan
                if truth.absent is None or not truth.absent.any()
                else float((word_table(metric_input, item)[truth.absent] < 0).float().mean())
                for item, truth in enumerate(metric_input.truths)
            ],
            dtype=torch.float32,
        )


PLUGIN = AbsentWords
