r"""Noun mass: the share of the absolute scores with the right sign in the right place.

$$\frac{\text{positive score on the object} + \text{absolute negative score elsewhere}}{\text{all absolute score}}$$

Over ``patches``, it is the recognition of FIxLIP's pointing game: patches inside objects count, and sums are over all
nouns.

Range:
    0 to 1; about 1/2 for signs at random

Use it when:
    You read the signs of a table.

Avoid it when:
    The scores elsewhere ought to be zero rather than negative.

Source:
    nibt; Baniecki et al., NeurIPS 2025 (FIxLIP)
"""

from dataclasses import dataclass
from typing import Annotated

import torch
import torch.nn.functional as F
from jaxtyping import Bool
from torch import Tensor

from nibt.data.units import Grid
from nibt.metrics._coalitions import on_patches
from nibt.metrics.base import Noun, NounMetric, PixelMap, PixelMask, RegionsInput
from nibt.options import OneOf
from nibt.types import PerExample


@dataclass(frozen=True)
class NounMass(NounMetric):
    """The share of the absolute scores with the right sign in the right place.

    Args:
        over: ``pixels`` (elsewhere is all the rest; the mean over nouns) or ``patches``.
    """

    over: Annotated[str, OneOf(("pixels", "patches"))] = "pixels"

    def __call__(self, metric_input: RegionsInput) -> PerExample:
        if self.over == "patches":
            return torch.tensor([_recognition(metric_input)], dtype=torch.float64)
        return super().__call__(metric_input)

    def number(self, pixels: PixelMap, noun: Noun) -> float:
        exact = pixels.double()
        right = exact[noun.mask].clamp_min(0).sum() - exact[~noun.mask].clamp_max(0).sum()
        total = exact.abs().sum()
        return float(right / total) if total > 0 else 0.0


def _recognition(metric_input: RegionsInput) -> float:
    """Return the share over the patches inside objects; NaN without a noun."""
    grid = metric_input.image.units
    assert isinstance(grid, Grid)
    table = on_patches(metric_input).double().cpu()
    right = total = 0.0
    for noun in metric_input.nouns:
        scores = table[list(noun.words)].sum(0)
        inside = _patches_inside(noun.mask, grid)
        others = [_patches_inside(mask, grid) for mask in (*noun.others, *metric_input.others)]
        elsewhere = torch.stack([*others, torch.zeros_like(inside)]).any(0) & ~inside
        right += float(scores[inside].clamp_min(0).sum() - scores[elsewhere].clamp_max(0).sum())
        total += float(scores[inside | elsewhere].abs().sum())
    if not metric_input.nouns:
        return torch.nan
    return right / total if total > 0 else 0.0


def _patches_inside(mask: PixelMask, grid: Grid) -> Bool[Tensor, " patch"]:
    """Return whether all pixels that a patch touches are on a mask."""
    return F.adaptive_avg_pool2d(mask[None].double(), (grid.rows, grid.columns)).flatten() == 1
