"""The ground truth of a pair in the terms of its two maps: pixels of the visible region, and words of the caption."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float64, Int
from torch import Tensor

from nibt.data.images import ImageInput, Region
from nibt.data.objects import Object, Point, Span
from nibt.data.pair import Pair
from nibt.data.units import Words

PixelMask = Bool[Tensor, "height width"]


@dataclass(frozen=True)
class GroundTruth:
    """The ground truth of one pair. A field is None, or empty, where nothing is known or nothing is named.

    Attributes:
        mask: True on the visible pixels of the objects that the caption names.
        others: The masks of the objects that the caption does not name.
        named: For each word of the caption, whether it names an object of the image.
        absent: For each word of the caption, whether it names an object that is not in the image.
        points: The labeled points of the objects that the caption names, by the visible pixels.
        extent: The number of rows and columns of visible pixels, for the points.
        objects: The mask of each object that the caption names, and that is visible.
        without: For each of these objects, draws the image without it, if that is possible.
        labels: The labels of the data set.
        label: The position of the label of the caption in ``labels``.
        label_map: The position of the label of each visible pixel in ``labels``; -1 where it is unknown or ignored.
        present: The positions of the labels of the image: of its pixels or, without a label map, of its objects.
    """

    mask: PixelMask | None = None
    others: tuple[PixelMask, ...] = ()
    named: Bool[Tensor, " word"] | None = None
    absent: Bool[Tensor, " word"] | None = None
    points: tuple[Point, ...] = ()
    extent: tuple[int, int] = (0, 0)
    objects: tuple[PixelMask, ...] = ()
    without: tuple[Callable[[], ImageInput] | None, ...] = ()
    labels: tuple[str, ...] = ()
    label: int | None = None
    label_map: Int[Tensor, "height width"] | None = None
    present: tuple[int, ...] = ()


def ground_truth(pair: Pair, region: Region, words: Words) -> GroundTruth:
    """Compute the ground truth of a pair for the region of the image and the words of the caption that a model sees."""
    named = [obj for obj in pair.objects if obj.spans]
    unnamed = [obj for obj in pair.objects if not obj.spans]
    spans = list(word_spans(pair.caption, words))
    spans_of_names = [span for obj in named for span in obj.spans]

    areas = [obj for obj in named if obj.has_area]
    masks = [seen_mask(pair, [obj], region) for obj in areas]
    seen = [(mask, obj.without) for mask, obj in zip(masks, areas, strict=True) if mask.any()]
    others = [obj for obj in unnamed if obj.has_area] if areas else []

    points = tuple(_seen_points(named, region))
    extent = (max(1, round(region.height)), max(1, round(region.width))) if points else (0, 0)
    label_map = None
    if pair.label_map is not None:
        label_map = torch.from_numpy(visible_pixels(pair.label_map.astype(np.int64), region, -1))

    return GroundTruth(
        mask=torch.stack(masks).any(0) if areas else None,
        others=tuple(seen_mask(pair, [obj], region) for obj in others),
        named=touched_words(spans, spans_of_names) if spans_of_names else None,
        absent=touched_words(spans, pair.absent) if pair.absent else None,
        points=points,
        extent=extent,
        objects=tuple(mask for mask, _ in seen),
        without=tuple(without for _, without in seen),
        labels=pair.labels,
        label=pair.label,
        label_map=label_map,
        present=tuple(_present(pair)),
    )


def covered_share(mask: PixelMask, shape: tuple[int, ...]) -> Float64[Tensor, "row column"]:
    """Return the share of each cell of a grid, of a shape (rows, columns), that a mask covers."""
    rows, columns = shape
    return F.adaptive_avg_pool2d(mask[None].double(), (rows, columns))[0]


def _present(pair: Pair) -> list[int]:
    """Return the positions of the labels of an image in their order."""
    if pair.label_map is not None:
        return np.unique(pair.label_map[pair.label_map >= 0]).tolist()
    names = {obj.name for obj in pair.objects}
    return [position for position, label in enumerate(pair.labels) if label in names or position == pair.label]


def _seen_points(objects: list[Object], region: Region) -> Iterator[Point]:
    """Yield the points in the visible region, with columns and rows of the region."""
    left, top, across, down = region.pixels
    for obj in objects:
        for x, y, inside in obj.points:
            if 0 <= x - left < across and 0 <= y - top < down:
                yield Point(x - left, y - top, inside)


def seen_mask(pair: Pair, objects: list[Object], region: Region) -> PixelMask:
    """Return the mask of objects in the visible region, from their masks or, without masks, their boxes."""
    width, height = pair.image.size
    covered = np.zeros((height, width), bool)
    for obj in objects:
        if obj.mask is not None:
            covered |= obj.mask
        elif obj.box is not None:
            left, top, across, down = (round(side) for side in obj.box)
            covered[max(0, top) : max(0, top + down), max(0, left) : max(0, left + across)] = True

    return torch.from_numpy(visible_pixels(covered, region, False))


def visible_pixels(pixels: np.ndarray, region: Region, outside: bool | int) -> np.ndarray:
    """Return the pixels of the visible region, with a value for those outside of the image."""
    left, top, across, down = region.pixels
    visible = np.full((down, across), outside, pixels.dtype)
    inner = pixels[max(0, top) : top + down, max(0, left) : left + across]
    visible[max(0, -top) :, max(0, -left) :][: inner.shape[0], : inner.shape[1]] = inner
    return visible


def objects_of_words(pair: Pair, region: Region, words: Words) -> list[tuple[tuple[int, ...], PixelMask]]:
    """Return the words that name each visible object, by their positions, with its mask in the visible region."""
    spans = list(word_spans(pair.caption, words))
    named = []
    for obj in pair.objects:
        positions = tuple(touched_words(spans, obj.spans).nonzero()[:, 0].tolist()) if obj.spans else ()
        mask = seen_mask(pair, [obj], region)
        if positions and mask.any():
            named.append((positions, mask))

    return named


def word_spans(caption: str, words: Words) -> Iterator[Span | None]:
    """Yield the span of each word in its caption; None if the tokenizer spells the word differently.

    Words occur in order, so each is searched for after the one before.
    """
    folded = caption.lower()
    place = 0
    for word in words.words[0]:
        start = folded.find(word.text.lower(), place)
        if start < 0:
            yield None
        else:
            place = start + len(word.text)
            yield start, place


def touched_words(words: list[Span | None], spans: tuple[Span, ...] | list[Span]) -> Bool[Tensor, " word"]:
    """Return whether each word, given by its span, has a character in one of the spans."""
    return torch.tensor(
        [word is not None and any(first < word[1] and word[0] < last for first, last in spans) for word in words]
    )
