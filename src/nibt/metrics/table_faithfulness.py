"""Table faithfulness: whether the table predicts what partly visible words and patches add *together*.

For coalitions of patches and of words that no method has drawn, the cosine of each pair is compared with the sum of the
table over the kept words and patches. Both lose their means over the coalitions of each side first, since what a word
or a patch adds alone is no interaction. ``r2`` is 1 minus the mean squared error, relative to the mean square of the
cosines; ``spearman`` is the rank correlation.

Range:
    at most 1; 0 for a table of zeros

Forward passes:
    2 x ``coalitions``, 128, shared by all tables of a pair

Use it when:
    You choose a table without ground truth.

Avoid it when:
    The method does not hide units by the mean color and padding.

Source:
    Baniecki et al., NeurIPS 2025 (FIxLIP), here without the parts of one side
"""

from dataclasses import dataclass
from typing import Annotated

import torch

from nibt.metrics._coalitions import CoalitionMetric
from nibt.metrics._rank_correlation import rank_correlation
from nibt.metrics.base import RegionsInput
from nibt.options import OneOf
from nibt.types import PerExample


@dataclass(frozen=True)
class TableFaithfulness(CoalitionMetric):
    """How well the table predicts the interaction of held-out coalitions.

    Args:
        measure: ``r2`` or ``spearman``.

    """

    better = "higher"

    measure: Annotated[str, OneOf(("r2", "spearman"))] = "r2"

    def __call__(self, metric_input: RegionsInput) -> PerExample:
        _, crossed, predicted = self.scores(metric_input)
        if self.measure == "spearman":
            rank = rank_correlation(predicted.flatten(), crossed.flatten())
            return torch.tensor([rank], dtype=torch.float64)
        total = crossed.square().sum()
        error = (crossed - predicted).square().sum()
        return (1 - error / total.where(total > 0, torch.nan))[None]


PLUGIN = TableFaithfulness
