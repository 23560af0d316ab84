"""Metrics of regions on coalitions of both sides of a pair."""

import math
from dataclasses import dataclass
from typing import Annotated

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from nibt.metrics._numbers import rank_correlation
from nibt.metrics._perturbation import embeddings_of_patches, embeddings_of_words, on_patches
from nibt.metrics.base import Metric, RegionsInput
from nibt.options import OneOf, OpenShare, Range, Seed
from nibt.types import PerExample

_HELD_OUT = 104729  # apart from the seeds with which methods draw their coalitions
PairScores = Float[Tensor, "image text"]


@dataclass(frozen=True)
class CoalitionMetric(Metric[RegionsInput]):
    """Base class of metrics on coalitions that no method has drawn.

    Args:
        coalitions: The number of coalitions of each side; the scores of all their pairs are compared.
        share: The probability that a unit is kept.
        seed: The seed of the coalitions.
    """

    sides = ("regions",)

    coalitions: Annotated[int, Range(2, 10_000)] = 64
    share: OpenShare = 0.5
    seed: Seed = 0

    def scores(self, metric_input: RegionsInput) -> tuple[PairScores, PairScores, PairScores]:
        """Return the cosines of all pairs, and what no score of one side alone explains of them and of the table."""
        regions = metric_input.regions
        draws = np.random.default_rng((self.seed, _HELD_OUT))
        counts = metric_input.image.units.count, len(regions.words)
        drawn = [draws.random((self.coalitions, count)) < self.share for count in counts]
        patches, words = (torch.from_numpy(kept).float() for kept in drawn)
        image, text = metric_input.once_for_all_methods(
            ("coalitions", self.coalitions, self.share, self.seed),
            lambda: (
                embeddings_of_patches(metric_input.image, patches),
                embeddings_of_words(metric_input.text, regions, words),
            ),
        )
        actual = (image @ text.T).double()
        predicted = (patches @ on_patches(metric_input).T @ words.T).double()
        return actual, _crossed(actual), _crossed(predicted)


def _crossed(scores: PairScores) -> PairScores:
    return scores - scores.mean(0) - scores.mean(1, keepdim=True) + scores.mean()


@dataclass(frozen=True)
class TableFaithfulness(CoalitionMetric, name="table_faithfulness"):
    """Table faithfulness: how well the table predicts the interactions of the kept words and patches.

    Random sets of patches and of words are kept, which no method has seen. For each pair of sets, the cosine is
    compared with the sum of the table over the kept words and patches. From both, the means over the sets of each side
    are subtracted first, so that what words or patches add alone does not count. ``r2`` is 1 minus the mean squared
    error, divided by the mean square of the cosines; ``spearman`` is the rank correlation.

    Range:
        at most 1; 0 for a table of zeros

    Forward passes:
        2 x ``coalitions``, 128, shared by all tables of a pair

    Use it when:
        You choose a method for tables, without ground truth.

    Avoid it when:
        The method removes units in another way than by the mean color and padding.

    Source:
        Baniecki et al., NeurIPS 2025 (FIxLIP), here without the scores of single words and patches

    Args:
        measure: ``r2`` or ``spearman``.
    """

    better = "higher"
    bounds = (-math.inf, 1.0)

    measure: Annotated[str, OneOf(("r2", "spearman"))] = "r2"

    def __call__(self, metric_input: RegionsInput) -> PerExample:
        _, crossed, predicted = self.scores(metric_input)
        if self.measure == "spearman":
            rank = rank_correlation(predicted.flatten(), crossed.flatten())
            return torch.tensor([rank], dtype=torch.float64)
        total = crossed.square().sum()
        error = (crossed - predicted).square().sum()
        return (1 - error / total.where(total > 0, torch.nan))[None]


@dataclass(frozen=True)
class AdditiveShare(CoalitionMetric, name="additive_share"):
    """Additive share: how well separate scores of words and of patches predict the cosine, without a table.

    Random sets of patches and of words are kept. The value is the share of the variance of the cosines of all pairs of
    sets that is explained by a number for each set of patches plus a number for each set of words.

    Forward passes:
        2 x ``coalitions``, 128, shared by all tables of a pair

    Use it when:
        You want to know how much a table can explain that two separate maps cannot.

    Avoid it when:
        You compare tables: it does not depend on them.

    Source:
        nibt (two-way analysis of variance)
    """

    better = "neither"
    bounds = (0.0, 1.0)

    def __call__(self, metric_input: RegionsInput) -> PerExample:
        actual, crossed, _ = self.scores(metric_input)
        total = (actual - actual.mean()).square().sum()
        return (1 - crossed.square().sum() / total.where(total > 0, torch.nan))[None]


@dataclass(frozen=True)
class Synergy(Metric[RegionsInput], name="synergy"):
    r"""Synergy: the correlation of the table with the interaction of each word and patch, without all other units.

    With the cosine $v$ of what is kept, the Harsanyi dividend of word $i$ and patch $j$ is

    $$m(i, j) = v(ij) - v(i) - v(j) + v(\emptyset)$$

    where $\emptyset$ keeps nothing. The value is the correlation (Pearson) of the table with $m$, over all entries.

    Range:
        -1 to 1; NaN for a constant table

    Forward passes:
        2 + words + patches, for all tables

    Use it when:
        You read single entries of a table.

    Avoid it when:
        Nearly empty inputs are unlike the model's training data: use ``table_faithfulness``, which keeps half of the
        units.

    Source:
        nibt, after the abstract of Ky et al., arXiv 2605.22168
    """

    better = "higher"
    bounds = (-1.0, 1.0)
    sides = ("regions",)

    def __call__(self, metric_input: RegionsInput) -> PerExample:
        dividends = metric_input.once_for_all_methods("dividends", lambda: dividends_of(metric_input))
        table = on_patches(metric_input).cpu().double()
        both = torch.stack([(scores - scores.mean()).flatten() for scores in (table, dividends)])
        lengths = both.norm(dim=1)
        flat = lengths <= 1e-12 * torch.stack([table.abs().max(), dividends.abs().max()])  # constant up to rounding
        product = (both[0] @ both[1]) / lengths.prod()
        return product.where(~flat.any(), torch.nan)[None]


def dividends_of(metric_input: RegionsInput) -> Float[Tensor, "word patch"]:
    """Compute the dividends of all words and patches."""
    alone = [
        torch.eye(count + 1, dtype=torch.float32, device="cpu")[:, 1:]
        for count in (len(metric_input.regions.words), metric_input.image.units.count)
    ]
    text = embeddings_of_words(metric_input.text, metric_input.regions, alone[0]).double()
    image = embeddings_of_patches(metric_input.image, alone[1]).double()
    return (text[1:] - text[0]) @ (image[1:] - image[0]).T
