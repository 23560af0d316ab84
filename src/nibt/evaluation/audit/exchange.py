"""How much what is beside the named objects decides, by exchanging it for that of another pair.

A map shows where the score comes from by the arithmetic of a method. An exchange asks the model itself: once all that
is beside the named objects gets the pixels of another image, and once the objects do. What the similarity loses by the
first is stated as a share of what it loses by both. In a caption, the words that name no object are exchanged for
those of another caption, and the names for its names.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from nibt.data.ground_truth import GroundTruth
from nibt.data.images import ImageInput
from nibt.data.objects import Object
from nibt.data.pair import Pair
from nibt.engine.encode import similarities
from nibt.evaluation.audit.checks import CheckValues
from nibt.evaluation.cells import cells_with, with_cells
from nibt.evaluation.maps import Map
from nibt.evaluation.shared import KeptEmbeddings
from nibt.evaluation.statistics import NOTHING, Interval, ratio_of_means
from nibt.models.base import Model
from nibt.types import Modality

_REACH = (-1.0, 2.0)  # of a share: an exchange may also raise the similarity


@dataclass(frozen=True, eq=False)
class Exchange:
    """What the similarity of each pair loses by both exchanges.

    Attributes:
        by_rest: What it loses by the exchange of what is beside the objects; NaN for a pair without an exchange.
        by_objects: What it loses by the exchange of the objects, likewise.
    """

    by_rest: np.ndarray
    by_objects: np.ndarray

    @property
    def losses(self) -> np.ndarray:
        """What each pair loses by both exchanges: (exchange, pair)."""
        return np.stack([self.by_rest, self.by_objects])

    def values(self) -> np.ndarray:
        """Return what each pair loses by the first exchange, relative to the mean of what pairs lose by both.

        Their mean is the share of all pairs. They are NaN for a model that does not prefer the unchanged pairs.
        """
        known = ~np.isnan(self.by_rest)
        lost_by_both = (self.by_rest + self.by_objects)[known]
        if len(lost_by_both) < 2 or lost_by_both.mean() <= 0:
            return np.full(len(known), math.nan)
        return self.by_rest / lost_by_both.mean()

    def share(self) -> Interval:
        """Return the share of all pairs with its interval."""
        known = ~np.isnan(self.values())
        if not known.any():
            return NOTHING

        by_rest = self.by_rest[known]
        return ratio_of_means(by_rest, by_rest + self.by_objects[known], _REACH)

    def check_values(self, side: Modality) -> CheckValues:
        """Return what the check of this exchange is computed from: it is of the model, whatever the method."""
        return CheckValues(NAMES[side], "", side, self.values(), mean=self.share())


NAMES: dict[Modality, str] = {"image": "exchange", "text": "exchange_words"}
"""The names of the checks."""


def exchange_beside_objects(
    model: Model,
    pairs: Sequence[Pair],
    donors: Sequence[int],
    images: Sequence[Map],
    truths: Sequence[GroundTruth],
    kept: KeptEmbeddings | None = None,
) -> Exchange:
    """Exchange what is beside the objects, and the objects, for the same places of the images of other pairs.

    Args:
        model: The model.
        pairs: The pairs.
        donors: For each pair, the position of the pair whose image replaces places.
        images: The map of each image; its cells are exchanged as a whole.
        truths: What is known of each pair; a pair without a mask has no exchange.
        kept: The embeddings of the pairs, if they are known.
    """
    kept = kept or KeptEmbeddings(model)
    items: list[int] = []
    without_rest: list[ImageInput] = []
    without_objects: list[ImageInput] = []
    for item, (pair, image_map, truth) in enumerate(zip(pairs, images, truths, strict=True)):
        if truth.mask is None:
            continue

        is_object = cells_with(truth.mask, image_map.scores.shape)
        if is_object.all() or not is_object.any():
            continue

        assert image_map.region is not None, "maps of images have a region"
        items.append(item)
        donor = pairs[donors[item]].image
        without_rest.append(with_cells(pair.image, donor, image_map.region, ~is_object))
        without_objects.append(with_cells(pair.image, donor, image_map.region, is_object))

    if not items:
        return _exchange(len(pairs), items, np.empty(0), np.empty(0))

    captions = kept.of("text", [pairs[item].caption for item in items])
    plain = similarities(model, kept.of("image", [pairs[item].image for item in items]), captions)
    by_rest = plain - similarities(model, without_rest, captions)
    by_objects = plain - similarities(model, without_objects, captions)
    return _exchange(len(pairs), items, by_rest, by_objects)


def exchange_of_words(model: Model, pairs: Sequence[Pair], kept: KeptEmbeddings | None = None) -> Exchange:
    """Exchange the words that name no object, and the names of the objects, for those of the captions of other pairs.

    The other pair is the next one whose words and whose names are others; a pair without one has no exchange, and
    neither has one without spans of objects. ``kept`` are the embeddings of the pairs, if they are known.
    """
    kept = kept or KeptEmbeddings(model)
    items: list[int] = []
    without_rest: list[str] = []
    without_names: list[str] = []
    for item, pair in enumerate(pairs):
        for donor in [*pairs[item + 1 :], *pairs[:item]]:
            if not _names(pair) or not _names(donor):
                continue

            other_words = _with_names(donor, _names(pair))
            other_names = _with_names(pair, _names(donor))
            if pair.caption not in (other_words, other_names):
                items.append(item)
                without_rest.append(other_words)
                without_names.append(other_names)
                break

    if not items:
        return _exchange(len(pairs), items, np.empty(0), np.empty(0))

    images = kept.of("image", [pairs[item].image for item in items])
    plain = similarities(model, images, kept.of("text", [pairs[item].caption for item in items]))
    by_rest = plain - similarities(model, images, without_rest)
    by_names = plain - similarities(model, images, without_names)
    return _exchange(len(pairs), items, by_rest, by_names)


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
    caption = pair.caption
    spans = _spans(pair.objects)
    for number, (first, last) in reversed(list(enumerate(spans))):
        caption = caption[:first] + names[number % len(names)] + caption[last:]
    return caption


def _exchange(count: int, items: Sequence[int], by_rest: np.ndarray, by_objects: np.ndarray) -> Exchange:
    """Return the exchange of all pairs, of which those at ``items`` have one."""
    losses = np.full((2, count), math.nan)
    losses[:, list(items)] = by_rest, by_objects
    return Exchange(*losses)
