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

from torch import Tensor

from nibt.data.ground_truth import GroundTruth
from nibt.metrics.base import WordMetric


@dataclass(frozen=True)
class AbsentWords(WordMetric):
    """The share of words for absent objects whose score is negative."""

    def mask(self, truth: GroundTruth) -> Tensor | None:
        return truth.absent

    def number(self, scores: Tensor, mask: Tensor) -> float:
        return float((scores[mask] < 0).float().mean())


PLUGIN = AbsentWords
