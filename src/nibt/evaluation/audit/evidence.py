"""Question 9: where the positive scores of maps lie, which can show that a model reads a shortcut."""

import math
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch

from nibt.data.ground_truth import GroundTruth, PixelMask, covered_share, ground_truth, visible_pixels
from nibt.data.pair import Pair
from nibt.data.typography import text_mask
from nibt.evaluation.audit.checks import BOUNDS, LEAST_PAIRS, CheckValues, known_count, worst_first
from nibt.evaluation.audit.exchange import Exchange
from nibt.evaluation.maps import Map
from nibt.evaluation.statistics import NOTHING, Interval, bootstrap_t, ratio
from nibt.models.base import Model
from nibt.preprocessing.captions import FUNCTION_WORDS
from nibt.results.check import FEWEST_PAIRS, Check
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
"""The sides of the checks of maps of question 9, by their names."""
_RING = 1 / 8  # of each side; one cell at least


@dataclass(frozen=True, eq=False)
class Evidence:
    """Where the positive scores of the maps of pairs lie.

    Attributes:
        values: The values of each pair, by the name of the check; NaN without a positive score on the side.
        bounds: The least and the largest possible value, by the name of the check, where they depend on the pairs.
        means: The value of all pairs with its interval, by the name of the check, where it is not the mean.
        has_masks: Whether masks or boxes of named objects are known.
        has_names: Whether the words that name objects are known.
        notes: Why text in the images was not checked.
    """

    values: Mapping[str, np.ndarray]
    bounds: Mapping[str, tuple[float, float]]
    means: Mapping[str, Interval]
    has_masks: bool
    has_names: bool
    notes: tuple[str, ...] = ()

    @classmethod
    def of(
        cls,
        model: Model,
        pairs: Sequence[Pair],
        images: Sequence[Map],
        texts: Sequence[Map],
        truths: Sequence[GroundTruth] | None = None,
        text: Sequence[PixelMask] | None = None,
    ) -> "Evidence":
        """Compute the evidence of maps.

        Args:
            model: The model.
            pairs: The pairs.
            images: The map of each image.
            texts: The map of each caption.
            truths: What is known of each pair; None computes it.
            text: The text in each image; None looks for it.
        """
        truths = truths_of(model, pairs, images) if truths is None else truths
        text = text_masks(pairs, images) if text is None else text
        beside = [mask if truth.mask is None else mask & ~truth.mask for mask, truth in zip(text, truths, strict=True)]

        grids = [positive_shares(image.scores) for image in images]
        areas = [covered_area(truth.mask, grid) for grid, truth in zip(grids, truths, strict=True)]
        places, place = fixed_place(grids, _labels(pairs))
        values = {
            "inside": [inside(grid, area) for grid, area in zip(grids, areas, strict=True)],
            "typography": _on_text(grids, beside),
            "border": [at_border(grid) for grid in grids],
            "fixed_place": places,
            "words": [_on_other_words(words, truth) for words, truth in zip(texts, truths, strict=True)],
        }
        return cls(
            values={name: np.asarray(numbers, float) for name, numbers in values.items()},
            bounds={"inside": bounds_inside(areas), "border": bounds_at_border(grids)},
            means={"fixed_place": place},
            has_masks=any(truth.mask is not None for truth in truths),
            has_names=any(truth.named is not None for truth in truths),
            notes=tuple(_text_notes(text, beside)),
        )

    def checks(self, method: str, exchanges: Mapping[Modality, Exchange] | None = None) -> Iterator[Check]:
        """Yield the checks of question 9 of a method, and why a value that fails may have another cause.

        Args:
            method: The method of the maps.
            exchanges: The exchanges of each side, which rule other causes out.
        """
        for name, numbers in self.values.items():
            side = SIDE_OF[name]
            least, most = self.bounds.get(name, (None, None))
            values = CheckValues(
                name=name,
                method=method,
                side=side,
                values=numbers,
                least=least,
                most=most,
                mean=self.means.get(name),
            )
            check = values.check()
            if check is None:
                continue

            exchange = None if exchanges is None else exchanges[side].check_values(side).check()
            yield replace(check, unclear=self._other_cause(side, exchange)) if check.reaches_failing else check

    def _other_cause(self, side: Modality, exchange: Check | None) -> str:
        """Return why a value may have another cause than a shortcut; empty if an exchange rules it out."""
        is_known = self.has_masks if side == "image" else self.has_names
        if not is_known:
            return UNKNOWN_OBJECTS[side]
        if exchange is None:
            return "the exchange that would tell was not measured"
        if exchange.count < FEWEST_PAIRS:
            return f"only {exchange.count} pairs have an exchange, which would tell with at least {FEWEST_PAIRS}"
        if exchange.reaches_failing:
            return ""

        what = "what is beside the objects" if side == "image" else "the words that name no object"
        limit = exchange.fails
        return (
            f"exchanging {what} lowers the similarity too little to confirm it ({exchange.value:.2f} of what both "
            f"exchanges lower it; from {limit:g} on, it would be confirmed)"
        )

    def worst(self, name: str) -> list[int]:
        """Return the positions of all pairs, from the worst value of a check on; unknown ones last."""
        return worst_first(self.values[name], BOUNDS[name].better)


UNKNOWN_OBJECTS = {
    "image": "without masks or boxes, a named object at the same place has the same value",
    "text": "without the words that name objects, a word that the model rightly reads has the same value",
}


def truths_of(model: Model, pairs: Sequence[Pair], images: Sequence[Map]) -> list[GroundTruth]:
    """Return what is known of each pair, for the regions of its map.

    A mask or a box without a visible pixel, as of an object that the model's crop leaves out, says nothing.
    """
    truths = []
    for pair, image in zip(pairs, images, strict=True):
        inputs = model.text.prepare([pair.caption])
        assert image.region is not None
        assert inputs.words is not None
        truth = ground_truth(pair, image.region, inputs.words[0])
        is_seen = truth.mask is not None and bool(truth.mask.any())
        truths.append(truth if is_seen else replace(truth, mask=None))

    return truths


def text_masks(pairs: Sequence[Pair], images: Sequence[Map]) -> list[PixelMask]:
    """Return the text in each image, for the region of its map."""
    masks = []
    for pair, image in zip(pairs, images, strict=True):
        assert image.region is not None
        masks.append(torch.from_numpy(visible_pixels(text_mask(pair.image.pil_image), image.region, False)))
    return masks


def positive_shares(scores: np.ndarray) -> np.ndarray:
    """Return the share of the positive score on each unit; NaN if no score is positive."""
    positive = scores.clip(0)
    return positive / (positive.sum() or math.nan)


def covered_area(mask: PixelMask | None, grid: np.ndarray) -> np.ndarray | None:
    """Return the share of each cell of a map that a mask covers; None without a mask."""
    return None if mask is None else covered_share(mask, grid.shape).numpy()


def inside(grid: np.ndarray, area: np.ndarray | None) -> float:
    """Return the share in an area, from 0 for that of a uniform map to 1; NaN without one, or if it is empty."""
    if area is None:
        return math.nan
    most = 1 - area.mean()
    return float(((grid * area).sum() - area.mean()) / most) if 0 < most < 1 else math.nan


def bounds_inside(areas: Sequence[np.ndarray | None]) -> tuple[float, float]:
    """Return the bounds of the share in areas, as ``inside`` measures it; the least is that of the largest area."""
    shares = [float(area.mean()) for area in areas if area is not None]
    largest = max((share for share in shares if share < 1), default=0.0)
    return -largest / (1 - largest), 1.0


def bounds_at_border(grids: Sequence[np.ndarray]) -> tuple[float, float]:
    """Return the bounds of the share at the border, as ``at_border`` measures it; the most is that of the least."""
    rings = [_ring(grid) for grid in grids]
    shares = [float(ring.mean()) for ring in rings if not ring.all()]
    return 0.0, 1 / min(shares, default=1.0)


def _text_notes(text: Sequence[PixelMask], beside: Sequence[PixelMask]) -> Iterator[str]:
    """Yield why text is not checked, or not all of it: ``beside`` is that beside the named objects."""
    with_text = sum(bool(mask.any()) for mask in text)
    count = sum(bool(mask.any()) for mask in beside)
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
    """Return the share of each map on text, as ``inside``; NaN for all if few images have text."""
    values = [inside(grid, covered_area(mask, grid)) for grid, mask in zip(grids, masks, strict=True)]
    return values if known_count(values) >= LEAST_PAIRS else [math.nan] * len(values)


def at_border(grid: np.ndarray) -> float:
    """Return the share in the outermost cells, relative to a uniform map; NaN if these are all cells."""
    ring = _ring(grid)
    return math.nan if ring.all() else float(grid[ring].sum() / ring.mean())


def _ring(grid: np.ndarray) -> np.ndarray:
    """Return whether each cell is one of the outermost."""
    down, across = (max(1, round(_RING * side)) for side in grid.shape)
    ring = np.ones(grid.shape, bool)
    ring[down:-down, across:-across] = False
    return ring


def in_corners(scores: np.ndarray) -> float:
    """Return the share of the absolute score in the corners, relative to a uniform map; NaN if no score is there."""
    sizes = np.abs(scores)
    corners = corner_cells(scores.shape)
    return float(sizes[corners].sum() / sizes.sum() / corners.mean()) if sizes.any() else math.nan


def corner_cells(shape: tuple[int, ...]) -> np.ndarray:
    """Return whether each cell of a map is in a corner: an eighth of each side, one cell at least."""
    down, across = (max(1, round(_RING * side)) for side in shape)
    corners = np.zeros(shape, bool)
    for rows in (slice(down), slice(-down, None)):
        corners[rows, :across] = True
        corners[rows, -across:] = True
    return corners


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
    values = np.full(len(grids), math.nan)
    count = sum(map(len, compared))
    if count < 3:
        return values, NOTHING

    stacks = [np.stack([grids[item] for item in items]) for items in compared]
    mirrored = [(one + one[:, ::-1] + one[:, :, ::-1] + one[:, ::-1, ::-1]) / 4 for one in stacks]
    overlaps = _Overlaps([one.reshape(len(one), -1) for one in stacks], [one.reshape(len(one), -1) for one in mirrored])

    overall, _ = overlaps.ratio(np.ones((1, count)))
    left_out, _ = overlaps.ratio(1 - np.eye(count))
    values[np.concatenate(compared)] = count * overall - (count - 1) * left_out
    return values, bootstrap_t(count, overlaps.ratio, (0.0, 4.0))


@dataclass(frozen=True, eq=False)
class _Overlaps:
    """The overlaps of maps with each other, and with mirrored maps.

    Attributes:
        rows: The maps of each group, (map, cell).
        mirrored: The mean of the four mirror images of each map, likewise.
    """

    rows: Sequence[np.ndarray]
    mirrored: Sequence[np.ndarray]

    def ratio(self, weights: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return the ratio of both overlaps for weights (sample, map), and its standard error."""
        same = np.zeros(len(weights))
        other = np.zeros(len(weights))
        by_weight_same: list[np.ndarray] = []
        by_weight_other: list[np.ndarray] = []
        ends = np.cumsum([len(one) for one in self.rows])[:-1]
        for rows, mirrored, own in zip(self.rows, self.mirrored, np.split(weights, ends, axis=1), strict=True):
            total = own @ rows
            turned = own @ mirrored
            # of a map with itself: left out
            squares = (rows * rows).sum(1)
            products = (rows * mirrored).sum(1)
            same += (total * total).sum(1) - own**2 @ squares
            other += (total * turned).sum(1) - own**2 @ products
            by_weight_same.append(2 * (total @ rows.T - own * squares))
            by_weight_other.append(turned @ rows.T + total @ mirrored.T - 2 * own * products)

        slopes = np.concatenate(by_weight_same, axis=1), np.concatenate(by_weight_other, axis=1)
        return ratio(weights, same, other, *slopes)


def _on_other_words(text: Map, truth: GroundTruth) -> float:
    """Return the share on words that name no object or, if none or all of them may name one, on function words."""
    known = [named for named in (truth.named, truth.absent) if named is not None]
    other = ~torch.stack(known).any(0).numpy() if known else np.zeros(len(text.words), bool)
    if not other.any():
        other = np.array([word.lower() in FUNCTION_WORDS for word in text.words])
    return float(positive_shares(text.scores)[other].sum()) if other.any() and not other.all() else math.nan
