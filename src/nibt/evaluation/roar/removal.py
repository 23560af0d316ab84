"""Removal of the units with the highest scores from the inputs.

Pixels are replaced by the channel means of their image, and tokens by the embedding of the padding token. The number of
removed units depends only on the percentile, as if all scores were different (ROAR, Hooker et al., 2019, also removes a
fixed share). Equal scores are ordered by a random map of each item, resized to pixels in the same way, so that a
constant map removes the same units as a random map.
"""

from collections.abc import Sequence

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor

from nibt.core.perturbation import item_rng
from nibt.models._trace import Inputs
from nibt.models.base import ImageTower, Tower
from nibt.results.attribution import to_pixels

_TIES = 3  # the random stream of ties, distinct from other draws for an item
_DIGITS = 9  # digits relative to the largest score; smaller differences are rounding errors of resizing


def count_above(count: int, percentile: int) -> int:
    """Return how many of ``count`` different numbers are above their percentile (linear, as in NumPy); at least 1.

    >>> count_above(4096, 75), count_above(12, 90), count_above(11, 90), count_above(1, 90)
    (1024, 2, 1, 1)
    """
    return max(1, count - 1 - percentile * (count - 1) // 100)


def highest(scores: np.ndarray, ties: np.ndarray, count: int) -> np.ndarray:
    """Return a mask of the ``count`` highest scores; equal ones are ordered by ``ties``, then by position."""
    largest = float(np.abs(scores).max()) or 1.0
    rounded = np.round(scores.ravel() / largest, _DIGITS)
    order = np.lexsort((-np.arange(scores.size), ties.ravel(), rounded))
    masks = np.zeros(scores.size, bool)
    masks[order[scores.size - count :]] = True
    return masks.reshape(scores.shape)


def removed_pixels(
    grid: np.ndarray, ties: np.ndarray, extent: tuple[int, int], percentile: int
) -> Bool[np.ndarray, "height width"]:
    """Return a mask of the removed pixels, which have the highest scores of the map resized to the input."""
    pixels, pixel_ties = (
        to_pixels(torch.from_numpy(np.asarray(values, np.float64)), *extent).numpy() for values in (grid, ties)
    )
    return highest(pixels, pixel_ties, count_above(pixels.size, percentile))


def removed_units(
    tower: Tower, inputs: Inputs, scores: Sequence[np.ndarray], percentile: int, seed: int
) -> Bool[Tensor, "item ..."]:
    """Return a mask of the removed pixels (item, height, width) or tokens (item, token) but special ones."""
    ties = [item_rng(inputs, item, seed, _TIES).random(of_item.shape) for item, of_item in enumerate(scores)]
    if isinstance(tower, ImageTower):
        extent = tower.extent(inputs)
        masks = [removed_pixels(grid, tied, extent, percentile) for grid, tied in zip(scores, ties, strict=True)]
        return torch.from_numpy(np.stack(masks))
    assert inputs.words is not None
    rows = inputs.words.explained.cpu().clone()
    for row, of_item, tied in zip(rows, scores, ties, strict=True):
        row[row.clone()] = torch.from_numpy(highest(of_item, tied, count_above(of_item.size, percentile)))
    return rows


def filled(tower: ImageTower, inputs: Inputs, removed: Bool[Tensor, "batch height width"]) -> Inputs:
    """Return the inputs with removed pixels replaced by the channel means of the image."""
    keep = (~removed).to(inputs.values)
    return tower.mask_pixels(inputs, keep, _means(tower, inputs))


def _means(tower: ImageTower, inputs: Inputs) -> Float[Tensor, "batch ..."]:
    """Return inputs in which each pixel has the channel means of its image."""
    values = inputs.values
    if values.ndim == 4:
        return values.mean((2, 3), keepdim=True).expand_as(values)
    # the values are rows of patches, each with its pixels and channels, followed by rows of padding
    valid = tower.valid_tokens(inputs, values).to(values)[..., None, None]
    height, width = tower.extent(inputs)
    pixels = values.unflatten(-1, (height * width // int(valid[0].sum()), -1))
    means = (pixels * valid).sum((1, 2), keepdim=True) / (valid.sum((1, 2), keepdim=True) * pixels.shape[2])
    return means.expand_as(pixels).flatten(2)
