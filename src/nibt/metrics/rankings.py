"""Metrics of a map as a ranking of the pixels, or of scores as a ranking of the words."""

from dataclasses import dataclass, replace

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from nibt.data.ground_truth import GroundTruth
from nibt.metrics._labels import scaled
from nibt.metrics._numbers import area_under_roc, average_precision, on_masks_or_points
from nibt.metrics.base import MaskMetric, MetricInput, PixelMap, PixelMask, ShareMetric, WordMetric, on_masks
from nibt.options import Share
from nibt.types import PerExample


def share_inside(scores: PixelMap, mask: PixelMask, count: int) -> float:
    """Return the share of the ``count`` pixels with the highest scores that lie in a mask; NaN for an empty mask."""
    if not mask.any():
        return torch.nan

    values = scores.flatten()
    inside = mask.flatten()
    last = values.topk(count).values[-1]
    above = values > last
    equal = values == last
    # pixels with the score of the last one compete for the remaining places; each counts by its chance of a place
    places = count - int(above.sum())
    hits = float(inside[above].sum()) + places * float(inside[equal].double().mean())
    return hits / count


@dataclass(frozen=True)
class RelevanceRank(MaskMetric, name="relevance_rank"):
    """Relevance rank accuracy: the share of the K highest pixels on the named objects, where K is their size.

    Pixels with equal scores that compete for the last places count in part. A random map gets the share of the image
    that the objects cover.

    Use it when:
        You want precision and recall in one number, without a threshold.

    Avoid it when:
        You compare data sets: chance is the share of the image that the object covers. Only the order of the pixels
        counts; for the sizes of scores, use ``energy``.

    Source:
        Arras et al., Information Fusion 81, 2022 (CLEVR-XAI)
    """

    def number(self, scores: PixelMap, mask: PixelMask) -> float:
        return share_inside(scores, mask, int(mask.sum()))


@dataclass(frozen=True)
class TopKIntersection(MaskMetric, name="top_k_intersection"):
    """Top-k intersection: the share of the highest pixels, a fixed share of the image, on the named objects.

    Pixels with equal scores that compete for the last places count in part.

    Use it when:
        You want to measure more than the largest score, as ``pointing_game`` does, and objects differ in size.

    Avoid it when:
        Objects are smaller than ``share`` of the image: then no map reaches 1.

    Source:
        Theiner et al., WACV 2022; its implementation in Quantus, with a share in place of 1,000 pixels

    Args:
        share: The number of pixels, as a share of the visible image; 1,000 of 224 x 224 are 0.02.
    """

    share: Share = 0.02

    def number(self, scores: PixelMap, mask: PixelMask) -> float:
        return share_inside(scores, mask, max(1, round(self.share * scores.numel())))


_DIGITS = 5  # of scaled scores; smaller differences are rounding errors, which would order plateaus of equal scores


@dataclass(frozen=True)
class AveragePrecision(ShareMetric, name="average_precision"):
    """Average precision of the map as a ranking of the pixels, from 0 to 1.

    The positives are the pixels of the objects that the caption names.
    A random map gets their share of the image.
    Where an object has labeled points instead of a mask, the points are ranked.
    With ``both_classes``, each pixel is ranked twice, as object by the map $m$, whose positive scores are scaled to
    [0, 1], and as background by $1 - m$, as in the programs of Chefer et al. A random map then gets about 0.5.

    Use it when:
        You compare the whole order of the pixels.

    Avoid it when:
        You compare data sets: the value by chance is the share of the image that the object covers. Patches limit it:
        on drawn scenes with ``scenes`` and one view, a perfect map has 0.87.

    Source:
        scikit-learn, ``average_precision_score``

    Args:
        both_classes: Whether pixels are also ranked as background.
    """

    both_classes: bool = False

    def __call__(self, metric_input: MetricInput) -> PerExample:
        if self.both_classes:
            attribution = metric_input.attribution
            positive = replace(attribution, scores=attribution.scores.float().clamp_min(0))
            return on_masks(replace(metric_input, attribution=positive), _precision_of_both)
        return on_masks_or_points(metric_input, _precision, _precision)


def _precision(scores: Float[Tensor, "..."], mask: Bool[Tensor, "..."]) -> float:
    return average_precision(mask.flatten().numpy(), scores.flatten().numpy())


def _precision_of_both(scores: PixelMap, mask: PixelMask) -> float:
    share = scaled(scores).double().round(decimals=_DIGITS)
    return _precision(torch.stack([(1 - share).round(decimals=_DIGITS), share]), torch.stack([~mask, mask]))


@dataclass(frozen=True)
class WordAUC(WordMetric, name="word_auc"):
    """Area under the ROC curve of words for visible objects against the other words of a caption.

    The value is the probability that a word which names an object of the image has a higher score than a word which
    does not; ties count one half.

    Use it when:
        You evaluate the scores of words.

    Avoid it when:
        Captions are very short: with three words, few values are possible. Chance is 0.5.

    Source:
        scikit-learn, ``roc_auc_score``
    """

    def mask(self, truth: GroundTruth) -> Tensor | None:
        return truth.named

    def number(self, scores: Tensor, mask: Tensor) -> float:
        return area_under_roc(mask.numpy(), scores.double().numpy())
