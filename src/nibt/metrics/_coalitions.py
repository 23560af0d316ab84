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

    def scores(self, metric_input: RegionsInput) -> "PairScores":
        """Return the cosines of all pairs of coalitions, and what the table says of them."""
        key = "coalitions", self.coalitions, self.share, self.seed
        image, text = metric_input.once_for_all_methods(key, lambda: self._evaluated(metric_input))
        return PairScores.of(metric_input.regions, image, text)

    def _evaluated(self, metric_input: RegionsInput) -> "tuple[_Evaluated, _Evaluated]":
        regions, draws = metric_input.regions, np.random.default_rng((self.seed, _HELD_OUT))
        grid = metric_input.image.units
        assert isinstance(grid, Grid)
        patches = draws.random((self.coalitions, grid.count)) < self.share
        words = draws.random((self.coalitions, len(regions.words))) < self.share
        kept = torch.from_numpy(patches).float(), torch.from_numpy(words).float()
        image = embeddings_of_patches(metric_input.image, kept[0])
        text = embeddings_of_words(metric_input.text, regions, kept[1])
        return _Evaluated(kept[0], image, grid), _Evaluated(kept[1], text, None)


@dataclass(frozen=True)
class _Evaluated:
    kept: Float[Tensor, "coalition unit"]
    embeddings: Float[Tensor, "coalition dim"]
    grid: Grid | None


@dataclass(frozen=True)
class PairScores:
    """Scores of pairs of an image's and a caption's coalition.

    Attributes:
        actual: The cosines of the model.
        crossed: The cosines without their means over either side: what no score of the patches alone and of the words
            alone explains.
        predicted: The same part of the sums of the table over the words and patches that are kept.

    """

    actual: Float[Tensor, "image text"]
    crossed: Float[Tensor, "image text"]
    predicted: Float[Tensor, "image text"]

    @classmethod
    def of(cls, regions: Regions, image: _Evaluated, text: _Evaluated) -> "PairScores":
        """Compare a table with the embeddings of coalitions."""
        assert image.grid is not None
        actual = (image.embeddings @ text.embeddings.T).double()
        predicted = (image.kept @ on_patches(regions, image.grid).T @ text.kept.T).double()
        return cls(actual, _crossed(actual), _crossed(predicted))


def _crossed(scores: Float[Tensor, "image text"]) -> Float[Tensor, "image text"]:
    return scores - scores.mean(0) - scores.mean(1, keepdim=True) + scores.mean()


def on_patches(regions: Regions, grid: Grid) -> Float[Tensor, "word patch"]:
    """Return a table on the grid of the model: the sums over its patches."""
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
