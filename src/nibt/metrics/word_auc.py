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

import torch

from nibt.metrics._pixels import ranking
from nibt.metrics.base import Metric, MetricInput, word_table
from nibt.types import PerExample


@dataclass(frozen=True)
class WordAUC(Metric):
    """Area under the ROC curve of words for visible objects against the other words."""

    better = "higher"
    bounds = (0.0, 1.0)
    sides = ("text",)

    def __call__(self, metric_input: MetricInput) -> PerExample:
        return torch.tensor(
            [
                torch.nan
                if truth.named is None
                else ranking("roc_auc_score", truth.named.numpy(), word_table(metric_input, item).double().numpy())
                for item, truth in enumerate(metric_input.truths)
            ],
            dtype=torch.float32,
        )


PLUGIN = WordAUC
