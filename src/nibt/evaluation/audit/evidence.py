"""Question 9: where the positive scores of maps lie, which can show that a model reads a shortcut."""

import math
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F

from nibt.data.ground_truth import GroundTruth, PixelMask, ground_truth, visible_pixels
from nibt.data.pair import Pair
from nibt.data.typography import text_mask
from nibt.evaluation.audit.checks import BOUNDS, LEAST_PAIRS, checks_of, known_count
from nibt.evaluation.maps import Map
from nibt.evaluation.statistics import Interval, jackknife
from nibt.models.base import Model
from nibt.preprocessing.captions import FUNCTION_WORDS
from nibt.results.audit import Check
from nibt.types import Modality

LEAST_IMAGES = 4
"""Labels with fewer images have no places of their own: their images are compared with those of other such labels."""
SIDE_OF: dict[str, Modality] = {
    "inside": "image",
    "typography": "image",
    "border": "image",
    "fixed_place": "image",
    "words": "text",
}
_RING = 1 / 8  # of each side; one cell at least


@dataclass(frozen=True)
class Evidence:
    """Where the positive scores of the maps of pairs lie.

    ``values`` are those of each pair, by the name of the check; NaN without a positive score on the side. ``notes`` say
    why text in the images was not checked.
    """

    values: Mapping[str, np.ndarray]
    place: Interval
    notes: tuple[str, ...] = ()

    @classmethod
    def of(cls, model: Model, pairs: Sequence[Pair], images: Sequence[Map], texts: Sequence[Map]) -> "Evidence":
        grids, words = ([_shares(one.scores) for one in side] for side in (images, texts))
        truths = list(_truths(model, pairs, images))
        places, place = fixed_place(grids, _labels(pairs))
        text = list(_text_masks(pairs, images))
        beside = [mask if truth.mask is None else mask & ~truth.mask for mask, truth in zip(text, truths, strict=True)]
        values = {
            "inside": [_inside(grid, truth.mask) for grid, truth in zip(grids, truths, strict=True)],
            "typography": _on_text(grids, beside),
            "border": [_at_border(grid) for grid in grids],
            "fixed_place": places,
            "words": [_on_other_words(*each) for each in zip(words, texts, truths, strict=True)],
        }
        arrays = {name: np.asarray(numbers, float) for name, numbers in values.items()}
        return cls(arrays, place, tuple(_text_notes(text, beside)))

    def checks(self, method: str) -> Iterator[Check]:
        for name, numbers in self.values.items():
            if name != "fixed_place":
                yield from checks_of(name, method, SIDE_OF[name], numbers)
            elif self.place.has_ends:
                yield BOUNDS[name].check(name, method, SIDE_OF[name], self.place, known_count(numbers))

    def worst(self, name: str) -> list[int]:
        """Return the positions of all pairs, from the worst value of a check on; unknown ones last."""
        sign = 1 if BOUNDS[name].better == "higher" else -1
        return np.argsort(sign * self.values[name], kind="stable").tolist()


def _truths(model: Model, pairs: Sequence[Pair], images: Sequence[Map]) -> Iterator[GroundTruth]:
    """Yield what is known of each pair."""
    for pair, image in zip(pairs, images, strict=True):
        inputs = model.text.prepare([pair.caption])
        assert image.region is not None
        assert inputs.words is not None
        yield ground_truth(pair, image.region, inputs.words[0])


def _shares(scores: np.ndarray) -> np.ndarray:
    """Return the share of the positive score on each unit; NaN if no score is positive."""
    positive = scores.clip(0)
    return positive / (positive.sum() or math.nan)


def _inside(grid: np.ndarray, mask: PixelMask | None) -> float:
    """Return the share in a mask, from 0 for that of a uniform map to 1; NaN without one, or if it is empty."""
    if mask is None:
        return math.nan
    area = F.adaptive_avg_pool2d(mask[None].double(), grid.shape)[0].numpy()
    most = 1 - area.mean()
    return float(((grid * area).sum() - area.mean()) / most) if 0 < most < 1 else math.nan


def _text_masks(pairs: Sequence[Pair], images: Sequence[Map]) -> Iterator[PixelMask]:
    """Yield the text in each image."""
    for pair, image in zip(pairs, images, strict=True):
        assert image.region is not None
        yield torch.from_numpy(visible_pixels(text_mask(pair.image.pil_image), image.region, False))


def _text_notes(text: Sequence[PixelMask], beside: Sequence[PixelMask]) -> Iterator[str]:
    """Yield why text is not checked, or not all of it: ``beside`` is that beside the named objects."""
    with_text, count = sum(bool(mask.any()) for mask in text), sum(bool(mask.any()) for mask in beside)
    covered = sum(bool(2 * rest.sum() < mask.sum()) for mask, rest in zip(text, beside, strict=True))
    if with_text and count < LEAST_PAIRS:
        yield (
            f"text was found in {with_text} of {len(text)} images, in {count} of them beside the named objects: "
            f"typography is checked with at least {LEAST_PAIRS}"
        )
    elif covered:
        yield (
            f"in {covered} of {with_text} images with text, most of it is on the named objects, where typography does "
            "not count it: audit without masks and boxes to count all text"
        )


def _on_text(grids: Sequence[np.ndarray], masks: Sequence[PixelMask]) -> list[float]:
    """Return the share of each map on text, as ``_inside``; NaN for all if few images have text."""
    values = [_inside(*each) for each in zip(grids, masks, strict=True)]
    return values if known_count(values) >= LEAST_PAIRS else [math.nan] * len(values)


def _at_border(grid: np.ndarray) -> float:
    """Return the share in the outermost cells, relative to a uniform map; NaN if these are all cells."""
    inner = np.zeros(grid.shape, bool)
    down, across = (max(1, round(_RING * side)) for side in grid.shape)
    inner[down:-down, across:-across] = True
    return float(grid[~inner].sum() / (~inner).mean()) if inner.any() else math.nan


def _labels(pairs: Sequence[Pair]) -> list[str]:
    """Return the label of each pair, or its caption; empty for one with few images."""
    labels = [pair.caption if pair.label is None else pair.labels[pair.label] for pair in pairs]
    counts = Counter(labels)
    return [label if counts[label] >= LEAST_IMAGES else "" for label in labels]


def fixed_place(grids: Sequence[np.ndarray], labels: Sequence[str]) -> tuple[np.ndarray, Interval]:
    """Return how much more the maps of a label share their places than mirrored places, 0 to 4, with its interval.

    It is the mean product of two maps of a label, relative to that of one with the four mirror images of the other: 1
    where left and right, and top and bottom, are equally likely for an object, wherever else it may be. First is the
    share of each map, as the jackknife's pseudo-value: unlike products with others, these can be tested as independent.
    """
    groups: dict[tuple[str, tuple[int, ...]], list[int]] = {}
    for item, (grid, label) in enumerate(zip(grids, labels, strict=True)):
        if np.isfinite(grid).all():
            groups.setdefault((label, grid.shape), []).append(item)
    compared = [items for items in groups.values() if len(items) > 1]
    stacks = [np.stack([grids[item] for item in items]) for items in compared]
    mirrored = [(one + one[:, ::-1] + one[:, :, ::-1] + one[:, ::-1, ::-1]) / 4 for one in stacks]
    ends = np.cumsum([len(one) for one in stacks])[:-1]

    def ratio(_: np.ndarray, weights: np.ndarray) -> np.ndarray:
        same, other = np.zeros(len(weights)), np.zeros(len(weights))
        for first, second, own in zip(stacks, mirrored, np.split(weights, ends, axis=1), strict=True):
            rows, turned = first.reshape(len(first), -1), second.reshape(len(second), -1)
            total = own @ rows
            same += (total * total).sum(1) - own @ (rows * rows).sum(1)
            other += (total * (own @ turned)).sum(1) - own @ (rows * turned).sum(1)
        with np.errstate(invalid="ignore"):
            return np.where(other > 1e-12, same / other, math.nan)

    values, count = np.full(len(grids), math.nan), sum(map(len, stacks))
    if count > 2:
        overall, left_out = ratio(values, np.ones((1, count))), ratio(values, 1 - np.eye(count))
        values[np.concatenate(compared)] = count * overall - (count - 1) * left_out
    return values, jackknife(np.empty((count, 0)), ratio, (0.0, 4.0))


def _on_other_words(words: np.ndarray, text: Map, truth: GroundTruth) -> float:
    """Return the share on words that name no object or, if none or all of them may name one, on function words."""
    known = [named for named in (truth.named, truth.absent) if named is not None]
    other = ~torch.stack(known).any(0).numpy() if known else np.zeros(len(text.words), bool)
    if not other.any():
        other = np.array([word.lower() in FUNCTION_WORDS for word in text.words])
    return float(words[other].sum()) if other.any() and not other.all() else math.nan
