"""Coalitions of both sides of a pair, at which metrics of regions compare a table with the model."""

from dataclasses import dataclass
from typing import Annotated

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from nibt.core.perturbation import embeddings_with_words, masker
from nibt.core.side import Side
from nibt.data.units import Grid
from nibt.metrics.base import Metric, RegionsInput
from nibt.options import OpenShare, Range, Seed
from nibt.results.regions import Regions

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
        key = "coalitions", self.coalitions, self.share, self.seed
        patches, words, image, text = metric_input.once_for_all_methods(key, lambda: self._evaluated(metric_input))
        actual = (image @ text.T).double()
        predicted = (patches @ on_patches(metric_input).T @ words.T).double()
        return actual, _crossed(actual), _crossed(predicted)

    def _evaluated(self, metric_input: RegionsInput) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        regions, draws = metric_input.regions, np.random.default_rng((self.seed, _HELD_OUT))
        counts = metric_input.image.units.count, len(regions.words)
        drawn = [draws.random((self.coalitions, count)) < self.share for count in counts]
        patches, words = (torch.from_numpy(kept).float() for kept in drawn)
        image = embeddings_of_patches(metric_input.image, patches)
        return patches, words, image, embeddings_of_words(metric_input.text, regions, words)


def _crossed(scores: PairScores) -> PairScores:
    return scores - scores.mean(0) - scores.mean(1, keepdim=True) + scores.mean()


def on_patches(metric_input: RegionsInput) -> Float[Tensor, "word patch"]:
    """Return the table on the grid of the model: the sums over its patches."""
    regions, grid = metric_input.regions, metric_input.image.units
    assert isinstance(grid, Grid)
    cells = F.adaptive_avg_pool2d(regions.table, (grid.rows, grid.columns))
    return cells.flatten(1) * (regions.grid.count / grid.count)


def embeddings_of_patches(image: Side, kept: Float[Tensor, "coalition unit"]) -> Float[Tensor, "coalition dim"]:
    """Compute the unit embeddings of an image with some of its patches; the others have the mean color."""
    device = image.tower.example.device
    return masker(image.embedded(), image.units)(kept[:, None].to(device))[:, 0].float().cpu()


def embeddings_of_words(
    text: Side, regions: Regions, kept: Float[Tensor, "coalition word"]
) -> Float[Tensor, "coalition dim"]:
    """Compute the unit embeddings of a caption with some of the words of its regions; the others are padding."""
    return embeddings_with_words(text, regions.words, kept).float().cpu()
