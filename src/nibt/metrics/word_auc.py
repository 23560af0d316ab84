"""The area under the ROC curve of the naming words over the other words of a caption (scikit-learn's): the chance that
a word which names an object of the image has a higher score than one which does not; ties count half.
"""

from dataclasses import dataclass

import torch
from typing_extensions import override

from nibt.metrics._ranking import ranking
from nibt.metrics.base import Metric, MetricInput, word_table
from nibt.types import PerExample


@dataclass(frozen=True)
class WordAUC(Metric):
    better = "higher"
    sides = ("text",)

    @override
    def __call__(self, trial: MetricInput) -> PerExample:
        return torch.tensor(
            [
                torch.nan
                if truth.named is None
                else ranking("roc_auc_score", truth.named.numpy(), word_table(trial, item).double().numpy())
                for item, truth in enumerate(trial.truths)
            ],
            dtype=torch.float32,
        )


PLUGIN = WordAUC
