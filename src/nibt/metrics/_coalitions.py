"""Coalitions of both sides of a pair, at which metrics of regions compare a table with the model."""

import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from nibt.core.perturbation import embeddings_with_words, masker
from nibt.core.side import Side
from nibt.data.units import Grid
from nibt.metrics.base import RegionsInput
from nibt.results.regions import Regions


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
