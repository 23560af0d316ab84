"""Removal: the units with the highest scores are replaced in the input.

Pixels become the channel means of their image, and tokens become the embedding of the padding token. The number of
removed units is that above the percentile of scores that are all different, so that equal scores do not change it
(ROAR, Hooker et al., 2019, removes a fixed share as well). Ties are ordered by a random map, drawn for each item and
scaled to pixels in the same way: a constant map removes what a random map would.
"""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor

from nibt.core.perturbation import item_rng
from nibt.models._trace import Inputs
from nibt.models.base import ImageTower, Tower
from nibt.results.attribution import to_pixels

_TIES = 3  # a place of its own among what is drawn for an item
_DIGITS = 9  # of the largest score: what differs by less is rounding of the stretching, and equal


def above(count: int, percentile: int) -> int:
    """How many of so many different numbers lie above their percentile (linear, as in NumPy), at least one.

    >>> above(4096, 75), above(12, 90), above(11, 90), above(1, 90)
    (1024, 2, 1, 1)

    """
    return max(1, count - 1 - percentile * (count - 1) // 100)


def highest(scores: np.ndarray, ties: np.ndarray, count: int) -> np.ndarray:
    """True on the ``count`` highest scores; among equal ones on those of the highest ``ties``, then on the first."""
    largest = float(np.abs(scores).max()) or 1.0
    rounded = np.round(scores.ravel() / largest, _DIGITS)
    order = np.lexsort((-np.arange(scores.size), ties.ravel(), rounded))
    masks = np.zeros(scores.size, bool)
    masks[order[scores.size - count :]] = True
    return masks.reshape(scores.shape)


def removed_pixels(
    grid: np.ndarray, ties: np.ndarray, extent: tuple[int, int], percentile: int
) -> Bool[np.ndarray, "height width"]:
    """The pixels that go: those of the highest scores, once the map is stretched bilinearly over the seen image."""
    stretched, of_ties = (
        to_pixels(torch.from_numpy(np.asarray(one, np.float64)), *extent).numpy() for one in (grid, ties)
    )
    return highest(stretched, of_ties, above(stretched.size, percentile))


def removed_units(
    tower: Tower, inputs: Inputs, scores: Sequence[np.ndarray], percentile: int, seed: int
) -> Bool[Tensor, "item ..."]:
    """What goes of each item: pixels (item, height, width), or token rows (item, token), never special ones.

    ``scores`` are of the grid (rows x columns), or of the tokens of words in their order.
    """
    ties = [item_rng(inputs, item, seed, _TIES).random(one.shape) for item, one in enumerate(scores)]
    if isinstance(tower, ImageTower):
        extent = tower.extent(inputs)
        masks = [removed_pixels(one, tied, extent, percentile) for one, tied in zip(scores, ties, strict=True)]
        return torch.from_numpy(np.stack(masks))
    assert inputs.words is not None
    rows = inputs.words.explained.cpu().clone()
    for row, one, tied in zip(rows, scores, ties, strict=True):
        row[row.clone()] = torch.from_numpy(highest(one, tied, above(one.size, percentile)))
    return rows


def filled(tower: ImageTower, inputs: Inputs, removed: Bool[Tensor, "batch height width"]) -> Inputs:
    """Images whose hidden pixels are the image's own channel means, over all of it as the tower sees it."""
    keep = (~removed).to(inputs.values)
    ground = tower.mask_pixels(replace(inputs, values=_means(tower, inputs)), 1 - keep)
    return replace(inputs, values=tower.mask_pixels(inputs, keep).values + ground.values)


def _means(tower: ImageTower, inputs: Inputs) -> Float[Tensor, "batch ..."]:
    values = inputs.values
    if values.ndim == 4:
        return values.mean((2, 3), keepdim=True).expand_as(values)
    own = tower.valid_tokens(inputs, values).to(values)[
        ..., None, None
    ]  # rows of patches: (pixel x channel), then padding
    height, width = tower.extent(inputs)
    pixels = values.unflatten(-1, (height * width // int(own[0].sum()), -1))
    means = (pixels * own).sum((1, 2), keepdim=True) / (own.sum((1, 2), keepdim=True) * pixels.shape[2])
    return means.expand_as(pixels).flatten(2)
