"""Metrics of the scores alone: their completeness, their sparseness, and the shares of places and signs."""

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from nibt.data.ground_truth import GroundTruth
from nibt.data.units import Grid
from nibt.metrics.base import Metric, MetricInput, WordMetric, word_table
from nibt.results.attribution import allowed
from nibt.types import PerExample


@dataclass(frozen=True)
class CompletenessGap(Metric, name="completeness_gap"):
    """Completeness gap: by how much the sum of the scores differs from the change of the target, relative to it.

    A change below 0.01 counts as 0.01. The value is never negative; methods without a path have NaN.

    Range:
        0 and up

    Use it when:
        You report the score of a unit as a share of the whole score.

    Avoid it when:
        You judge a map by it: a poor map can be complete.

    Source:
        Sundararajan et al., ICML 2017, as an error
    """

    better = "lower"
    bounds = (0.0, math.inf)

    def __call__(self, metric_input: MetricInput) -> PerExample:
        path = metric_input.attribution.path
        if path is None:
            return torch.full((len(metric_input.attribution.scores),), torch.nan, dtype=torch.float32)
        return (path.gap.abs() / allowed(path.at_input - path.at_baseline, 1.0)).float().cpu()


@dataclass(frozen=True)
class Sparseness(Metric, name="sparseness"):
    r"""Sparseness: the Gini index of the absolute scores, from 0 (all equal) to almost 1 (one unit has all).

    $$G = \frac{\sum_i (2 i - n - 1) |s_i|}{n \sum_i |s_i|}$$

    The $n$ absolute scores $|s_i|$ are in increasing order. The units are the patches of an image, or the words of a
    caption. A map of zeros has 0.

    Range:
        0 to 1 - 1 / number of units

    Use it when:
        You want to know whether few units have most of the scores.

    Avoid it when:
        You rank methods: neither a high nor a low value is better; a map of one random patch is the sparsest. Grids of
        different sizes have different ranges.

    Source:
        Chalasani et al., ICML 2020
    """

    better = "neither"
    bounds = (0.0, 1.0)

    def __call__(self, metric_input: MetricInput) -> PerExample:
        on_grid = isinstance(metric_input.attribution.units, Grid)
        indices = []
        for item, scores in enumerate(metric_input.attribution.scores):
            sizes = (scores if on_grid else word_table(metric_input, item)).cpu().double().abs().sort().values
            count = len(sizes)
            total = float(sizes.sum())
            weights = 2 * torch.arange(1, count + 1, device=sizes.device) - count - 1
            indices.append(float((weights * sizes).sum()) / (count * total) if total else 0.0)

        return torch.tensor(indices, dtype=torch.float32)


@dataclass(frozen=True)
class SpecialShare(Metric, name="special_token_share"):
    """The share of the absolute score on rows without a unit, from 0 to 1.

    These rows are class, start, end and padding tokens.

    Use it when:
        You choose a layer or a method: above 0.5, the map shows less than half of the absolute scores.

    Avoid it when:
        You rank methods: neither a high nor a low value is better.

    Source:
        nibt
    """

    better = "neither"
    bounds = (0.0, 1.0)

    def __call__(self, metric_input: MetricInput) -> PerExample:
        return metric_input.attribution.special_token_share.float().cpu()


@dataclass(frozen=True)
class CornerShare(Metric, name="corner_share"):
    """The share of the absolute score on the four corner patches, from 0 to 1.

    Range:
        0 to 1; a uniform map has 4 / number of patches

    Use it when:
        You suspect that background patches store global information (Darcet et al., ICLR 2024).

    Avoid it when:
        You rank methods: objects may be in corners, so neither a high nor a low value is better.

    Source:
        the reviews of NIB's paper
    """

    better = "neither"
    bounds = (0.0, 1.0)
    sides = ("image",)

    def __call__(self, metric_input: MetricInput) -> PerExample:
        size = metric_input.attribution.grid.abs()
        corners = size[:, [0, 0, -1, -1], [0, -1, 0, -1]].sum(-1)
        return (corners / size.sum((-2, -1)).clamp_min(1e-30)).float().cpu()


@dataclass(frozen=True)
class AbsentWords(WordMetric, name="absent_words"):
    """The share of words for absent objects whose score is negative, from 0 to 1.

    Use it when:
        You rely on the signs of words. Also report the share of words for present objects whose score is positive.

    Avoid it when:
        The scores have no signs. A method that gives every word a negative score has the value 1.

    Source:
        nibt
    """

    def mask(self, truth: GroundTruth) -> Tensor | None:
        return truth.absent

    def number(self, scores: Tensor, mask: Tensor) -> float:
        return float((scores[mask] < 0).float().mean())
