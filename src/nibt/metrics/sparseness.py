r"""Sparseness: the Gini index of the absolute scores, from 0 (all equal) to almost 1 (one unit has all).

$$G = \frac{\sum_i (2 i - n - 1) |s_i|}{n \sum_i |s_i|}$$

The $n$ absolute scores $|s_i|$ are in increasing order. The units are the patches of an image, or the words of a
caption. A map of zeros has 0.

Range:
    0 to 1 - 1 / number of units

Use it when:
    You want to know whether users get a short answer.

Avoid it when:
    You rank methods: no direction is better, as a map with one random patch is the sparsest. Grids of different sizes
    have different ranges.

Source:
    Chalasani et al., ICML 2020
"""

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from nibt.data.units import Grid
from nibt.metrics.base import Metric, MetricInput, word_table
from nibt.types import PerExample


@dataclass(frozen=True)
class Sparseness(Metric):
    """The Gini index of the absolute scores."""

    better = "neither"

    def __call__(self, metric_input: MetricInput) -> PerExample:
        scores = metric_input.attribution.scores
        on_grid = isinstance(metric_input.attribution.units, Grid)
        items = range(len(scores))
        indices = [_gini(scores[item] if on_grid else word_table(metric_input, item)) for item in items]
        return torch.tensor(indices, dtype=torch.float32)


def _gini(scores: Float[Tensor, " unit"]) -> float:
    sizes = scores.cpu().double().abs().sort().values
    count, total = len(sizes), float(sizes.sum())
    weights = 2 * torch.arange(1, count + 1, device=sizes.device) - count - 1
    return float((weights * sizes).sum()) / (count * total) if total else 0.0
