"""Whether a model uses what its maps mark beside the named objects: it is exchanged for that of another pair.

A map shows where the score comes from by the arithmetic of a method. An exchange asks the model itself: the cells
beside the objects that have most of the positive score there get the pixels of another image, and, for comparison, as
many other cells beside the objects do. In a caption, all words that name no object are exchanged for those of another
caption. What the similarity loses is stated as a share of what it loses if the whole image, or the whole caption, is
exchanged.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image

from nibt.data.ground_truth import GroundTruth
from nibt.data.images import ImageInput, Region
from nibt.data.objects import Object
from nibt.data.pair import Pair
from nibt.engine.encode import encode
from nibt.evaluation.maps import Map
from nibt.evaluation.statistics import NOTHING, Interval, jackknife
from nibt.models.base import Model

_MARKED = 0.6  # the share of the positive score beside the objects that the exchanged cells have
_BESIDE = 0.05  # a cell is beside the objects if they cover at most this share of it


@dataclass(frozen=True, eq=False)
class Exchange:
    """The similarity that is lost by an exchange, relative to that lost by the exchange of the whole input.

    Attributes:
        values: The share of each pair, relative to the mean loss of all pairs, so that its mean is ``mean``; NaN for a
            pair without an exchange.
        mean: The share of all pairs, with its interval.
    """

    values: np.ndarray
    mean: Interval


def exchange_of_places(
    model: Model, pairs: Sequence[Pair], donors: Sequence[int], images: Sequence[Map], truths: Sequence[GroundTruth]
) -> Exchange:
    """Exchange the marked cells beside the objects for the same cells of the images of other pairs.

    Args:
        model: The model.
        pairs: The pairs.
        donors: For each pair, the position of the pair whose image replaces its cells.
        images: The map of each image.
        truths: What is known of each pair; a pair without a mask has no exchange.
    """
    items, marked_images, other_images = [], [], []
    draws = np.random.default_rng(0)
    for item, (pair, image_map, truth) in enumerate(zip(pairs, images, truths, strict=True)):
        marked, others = _cells_beside(image_map, truth, draws)
        if not len(marked) or not len(others):
            continue
        items.append(item)
        donor = pairs[donors[item]].image
        marked_images.append(_with_cells(pair.image, donor, image_map, marked))
        other_images.append(_with_cells(pair.image, donor, image_map, others))

    whole = [pairs[donors[item]].image for item in items]
    captions = [pairs[item].caption for item in items]
    with_marked, with_others, with_all, plain = (
        _similarities(model, changed, captions)
        for changed in (marked_images, other_images, whole, [pairs[item].image for item in items])
    )
    return _share(len(pairs), items, with_others - with_marked, plain - with_all)


def exchange_of_words(model: Model, pairs: Sequence[Pair], donors: Sequence[int]) -> Exchange:
    """Exchange the words that name no object for those of the captions of other pairs.

    Args:
        model: The model.
        pairs: The pairs; a pair without spans of objects has no exchange.
        donors: For each pair, the position of the pair whose words it gets.
    """
    items, changed = [], []
    for item, pair in enumerate(pairs):
        donor = pairs[donors[item]]
        caption = _with_names(donor, _names(pair)) if _names(pair) and _names(donor) else pair.caption
        if caption != pair.caption:
            items.append(item)
            changed.append(caption)

    images = [pairs[item].image for item in items]
    plain = _similarities(model, images, [pairs[item].caption for item in items])
    with_words = _similarities(model, images, changed)
    with_all = _similarities(model, images, [pairs[donors[item]].caption for item in items])
    return _share(len(pairs), items, plain - with_words, plain - with_all)


def _cells_beside(image_map: Map, truth: GroundTruth, draws: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Return the marked cells beside the objects, by their positions, and as many others; both may be empty."""
    none = np.empty(0, int)
    if truth.mask is None:
        return none, none

    scores = image_map.scores
    covered = F.adaptive_avg_pool2d(truth.mask[None].double(), scores.shape)[0].numpy()
    beside = np.flatnonzero(covered <= _BESIDE)
    positive = scores.ravel()[beside].clip(0)
    if not positive.sum():
        return none, none

    order = np.argsort(-positive, kind="stable")
    shares = positive[order].cumsum() / positive.sum()
    count = 1 + int(np.searchsorted(shares, _MARKED))
    others = draws.permutation(beside[order[count:]])
    return beside[order[:count]], others[:count]


def _with_cells(image: ImageInput, donor: ImageInput, image_map: Map, cells: np.ndarray) -> ImageInput:
    """Return an image that has cells of another one, which is resized to its size."""
    region = image_map.region
    assert region is not None, "maps of images have a region"
    pixels = np.array(image.pil_image)
    of_donor = np.array(donor.pil_image.resize(image.size, Image.Resampling.BICUBIC))
    for row, column in zip(*np.unravel_index(cells, image_map.scores.shape), strict=True):
        place = _place(region, image_map.scores.shape, int(row), int(column))
        pixels[place] = of_donor[place]
    return ImageInput(Image.fromarray(pixels), f"{image.source}, changed")


def _place(region: Region, shape: tuple[int, ...], row: int, column: int) -> tuple[slice, slice]:
    """Return the pixels of a cell of a map."""
    tops = [max(0, round(region.top + region.height * line / shape[0])) for line in (row, row + 1)]
    lefts = [max(0, round(region.left + region.width * line / shape[1])) for line in (column, column + 1)]
    return slice(*tops), slice(*lefts)


def _names(pair: Pair) -> list[str]:
    """Return the parts of a caption that name objects, in order."""
    return [pair.caption[first:last] for first, last in _spans(pair.objects)]


def _spans(objects: Sequence[Object]) -> list[tuple[int, int]]:
    """Return the spans of objects that do not overlap, in order."""
    spans: list[tuple[int, int]] = []
    for first, last in sorted(span for named in objects for span in named.spans):
        if not spans or first >= spans[-1][1]:
            spans.append((first, last))
    return spans


def _with_names(pair: Pair, names: Sequence[str]) -> str:
    """Return a caption whose objects have other names, which are repeated if there are too few."""
    caption, spans = pair.caption, _spans(pair.objects)
    for number, (first, last) in reversed(list(enumerate(spans))):
        caption = caption[:first] + names[number % len(names)] + caption[last:]
    return caption


@torch.no_grad()
def _similarities(model: Model, images: Sequence[ImageInput], captions: Sequence[str]) -> np.ndarray:
    """Return the similarity of each image with its caption."""
    if not images:
        return np.empty(0)
    similarity = model.similarity(encode(model.image, images).float(), encode(model.text, captions).float())
    return similarity.double().cpu().numpy()


def _share(count: int, items: Sequence[int], losses: np.ndarray, of_whole: np.ndarray) -> Exchange:
    """Return the sum of the losses relative to the sum of those of the exchange of the whole input."""
    values = np.full(count, math.nan)
    if len(items) < 2 or of_whole.mean() <= 0:  # a model that prefers other pairs has nothing to share
        return Exchange(values, NOTHING)

    def ratio(rows: np.ndarray, weights: np.ndarray) -> np.ndarray:
        sums = weights @ rows
        return sums[:, 0] / sums[:, 1]

    values[list(items)] = losses / of_whole.mean()
    return Exchange(values, jackknife(np.stack([losses, of_whole], axis=1), ratio))
