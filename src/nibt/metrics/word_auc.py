"""Area under the ROC curve of words for visible objects against the other words of a caption.

The value is the probability that a word which names an object of the image has a higher score than a word which does
not; ties count one half. scikit-learn computes it.

Range:
    0 to 1

Forward passes:
    none

Use it when:
    You evaluate the scores of words.

Avoid it when:
    Captions are very short: one naming word of three gives few possible values. Chance is 0.5.

Source:
    scikit-learn, ``roc_auc_score``
"""

from dataclasses import dataclass

from torch import Tensor

from nibt.data.ground_truth import GroundTruth
from nibt.metrics._pixels import ranking
from nibt.metrics.base import WordMetric


@dataclass(frozen=True)
class WordAUC(WordMetric):
    """Area under the ROC curve of words for visible objects against the other words."""

    def mask(self, truth: GroundTruth) -> Tensor | None:
        return truth.named

    def number(self, scores: Tensor, mask: Tensor) -> float:
        return ranking("roc_auc_score", mask.numpy(), scores.double().numpy())


PLUGIN = WordAUC
