"""Metrics of localization: whether the scores are on the named objects."""

from dataclasses import dataclass
from typing import Annotated

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from nibt.data.ground_truth import covered_share
from nibt.data.units import Grid
from nibt.metrics._labels import scaled
from nibt.metrics._numbers import on_masks_or_points
from nibt.metrics._perturbation import on_patches
from nibt.metrics.base import MaskMetric, MetricInput, Noun, NounMetric, PixelMap, PixelMask, RegionsInput, ShareMetric
from nibt.options import ClosedShare, OneOf
from nibt.results.pixels import to_pixels
from nibt.types import PerExample


def hit(scores: Float[Tensor, "height width"], mask: Bool[Tensor, "height width"], tolerance: float) -> float:
    """Return whether the maximum of a map is on a mask, 1 or 0; NaN for an empty mask."""
    peak = torch.nonzero(scores == scores.max()).double().mean(0)
    inside = torch.nonzero(mask)
    if not len(inside):
        return torch.nan

    distances = (inside - peak).abs()
    reach = tolerance * max(mask.shape)
    if reach < 1:  # the peak must lie on a pixel of the mask
        return float(distances.amax(1).min() <= 0.5)
    return float(distances.square().sum(1).min().sqrt() <= reach)


@dataclass(frozen=True)
class PointingGame(ShareMetric, name="pointing_game"):
    """Pointing game: whether the maximum of the map lies on a named object, 1 or 0.

    Several equal maxima are replaced by their mean position. The tolerance, 15 of 640 pixels, is the published one.

    With labeled points instead of a mask, the value is whether the labeled point with the highest score is on the
    object, without a tolerance. Of several equal maxima, it is the share of those on the object.

    Range:
        0 or 1; with labeled points and equal maxima, 0 to 1

    Use it when:
        You want a number that is easy to read and to compare with publications.

    Avoid it when:
        You need more than one pixel of the map. The tolerance favors coarse grids, and the control ``center`` has good
        values on photographs.

    Source:
        Zhang et al., IJCV 2018

    Args:
        tolerance: The largest distance of a hit from the mask, as a share of the longer side.
    """

    tolerance: ClosedShare = 15 / 640

    def __call__(self, metric_input: MetricInput) -> PerExample:
        return on_masks_or_points(
            metric_input,
            lambda scores, mask: hit(scores, mask, self.tolerance),
            lambda scores, inside: float(inside[scores == scores.max()].double().mean()),
        )


@dataclass(frozen=True)
class NounPointing(NounMetric, name="noun_pointing"):
    """Noun pointing: the share of nouns whose map has its largest score on the object of the noun.

    The map of a noun is the sum of the rows of its words, resized bilinearly to the pixels. Equal maxima are replaced
    by their mean position. The tolerance is that of ``pointing_game``.

    Use it when:
        The images have several objects, all named, so that a map of all of them fails.

    Avoid it when:
        You are interested only in the sizes of the entries.

    Source:
        Zhang et al., IJCV 2018, for each noun

    Args:
        tolerance: The largest distance of a hit from the mask, as a share of the longer side.
    """

    tolerance: ClosedShare = 15 / 640

    def number(self, pixels: PixelMap, noun: Noun) -> float:
        return hit(pixels, noun.mask, self.tolerance)


@dataclass(frozen=True)
class Energy(MaskMetric, name="energy"):
    """Energy-based pointing game: the share of the positive scores on the named objects, from 0 to 1.

    Negative pixels become 0. A map without positive pixels gets 0.

    This is the relevance mass accuracy of Arras et al., 2022, too.

    Use it when:
        You want to know how focused a map is.

    Avoid it when:
        You compare maps with zeros with maps that are positive everywhere: ``legrad`` has 0.13 on 1,000 scenes, but its
        order is good (AP 0.75).

    Source:
        Wang et al., CVPR workshops 2020 (Score-CAM); Arras et al., Information Fusion 81, 2022
    """

    def number(self, scores: PixelMap, mask: PixelMask) -> float:
        return _share_on(mask, scores)


@dataclass(frozen=True)
class NounEnergy(NounMetric, name="noun_energy"):
    """Noun energy: the share of each noun's positive scores on its own object, or on the objects of other nouns.

    The map of a noun is the sum of the rows of its words, resized bilinearly to the pixels; negative pixels become 0.

    Use it when:
        You want to know whether the nouns of a caption have different maps: compare ``on="own"`` with ``on="others"``.

    Avoid it when:
        You compare tables without negative entries with signed tables.

    Source:
        Wang et al., CVPR workshops 2020 (Score-CAM), for each noun

    Args:
        on: ``own`` for the object of the noun, ``others`` for all other objects, of which lower shares are better.
    """

    on: Annotated[str, OneOf(("own", "others"))] = "own"

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.on == "others":
            object.__setattr__(self, "better", "lower")

    def number(self, pixels: PixelMap, noun: Noun) -> float:
        if self.on == "others" and not noun.others:
            return float("nan")
        mask = noun.mask if self.on == "own" else torch.stack(noun.others).any(0) & ~noun.mask
        return _share_on(mask, pixels)


def _share_on(mask: PixelMask, scores: PixelMap) -> float:
    mass = scores.double().clamp_min(0)
    return float(mass[mask].sum() / mass.sum()) if mass.sum() > 0 else 0.0


@dataclass(frozen=True)
class NounMass(NounMetric, name="noun_mass"):
    r"""Noun mass: the share of absolute scores that are positive on the object or negative elsewhere.

    $$\frac{\text{positive score on the object} + \text{absolute negative score elsewhere}}{\text{all absolute score}}$$

    Over ``patches``, it is the recognition of FIxLIP's pointing game: patches inside objects count, and sums are over
    all nouns.

    Range:
        0 to 1; about 1/2 for signs at random

    Use it when:
        You read the signs of a table.

    Avoid it when:
        The scores elsewhere ought to be zero rather than negative.

    Source:
        nibt; Baniecki et al., NeurIPS 2025 (FIxLIP)

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
    table = on_patches(metric_input).cpu().double()
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
    return covered_share(mask, (grid.rows, grid.columns)).flatten() == 1


@dataclass(frozen=True)
class OwnObject(ShareMetric, name="own_object"):
    """Whether the mean score on the named objects exceeds that on every other object, 1 or 0.

    A map that is the same for all captions of a scene fails this test, since
    the captions name different objects.

    Range:
        0 or 1

    Use it when:
        You want to find maps that show all objects, independently of the caption.

    Avoid it when:
        The images have a single object.

    Source:
        nibt
    """

    def __call__(self, metric_input: MetricInput) -> PerExample:
        values = torch.full((len(metric_input.truths),), torch.nan, dtype=torch.float32)
        for item, truth in enumerate(metric_input.truths):
            others = [mask for mask in truth.others if mask.any()]
            if truth.mask is not None and truth.mask.any() and others:
                pixels = to_pixels(metric_input.attribution[item].grid, *truth.mask.shape).cpu()
                on_named = pixels[truth.mask].mean()
                values[item] = all(on_named > pixels[mask].mean() for mask in others)
        return values


@dataclass(frozen=True)
class ScoreContrast(MaskMetric, name="score_contrast"):
    """Score contrast (mSC): the mean score on the named objects minus the mean score on the rest of the image.

    The map is resized bilinearly to the pixels and scaled to [0, 1] over them. A map that is higher on the background
    is below 0, the "opposite visualization" of CLIP's own similarity map.

    Range:
        -1 to 1

    Use it when:
        You want to know whether a map is higher on the object than on the background, without a threshold.

    Avoid it when:
        You compare methods whose maps differ in their distribution: a map with few high pixels has a small contrast.

    Source:
        Li et al., Pattern Recognition 2025, arXiv 2304.05653 (CLIP Surgery)
    """

    bounds = (-1.0, 1.0)

    def number(self, scores: PixelMap, mask: PixelMask) -> float:
        if mask.all() or not mask.any():
            return torch.nan
        share = scaled(scores)
        return float(share[mask].mean() - share[~mask].mean())
