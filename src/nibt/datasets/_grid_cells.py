"""The pictures and the objects in the cells of a grid."""

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
from PIL import Image

from nibt.data.pair import Box, Object, Pair, Point, Span
from nibt.datasets._names import named_spans
from nibt.datasets._records import RecordDataset, mask_box
from nibt.datasets.base import Dataset, Record

COUNT = 4
Rectangle = tuple[int, int, int, int]
"""Left, top, right and bottom in pixels, the last two exclusive."""


class LabeledPicture(NamedTuple):
    """A picture with one label, by its position in its data set, and the names of all its objects."""

    item: int
    label: str
    names: frozenset[str]


def labeled(data: Dataset) -> Iterator[LabeledPicture]:
    """Yield the pictures of a data set whose captions name objects of one name. Images in files are not read."""
    for item in range(len(data)):
        if isinstance(data, RecordDataset):
            named, names = _names_of_record(data.entries[item])
        else:
            objects = data[item].objects
            named, names = {obj.name for obj in objects if obj.spans}, {obj.name for obj in objects}
        if len(named) == 1:
            yield LabeledPicture(item, _first(*named), frozenset(map(_first, names)))


def _names_of_record(record: Record) -> tuple[set[str], set[str]]:
    """Return the names of the objects that the caption of a record names, and those of all objects."""
    if record.error or record.caption is None:
        return set(), set()
    all_names = {obj.name for obj in record.annotations} or set(record.names)
    searched = {obj.name for obj in record.annotations if obj.spans is None} if record.annotations else all_names
    spans = named_spans(record.caption, record.names or searched) if searched else {}
    named = {obj.name for obj in record.annotations if obj.spans}
    return named | {name for name in searched if name in spans}, all_names


def _first(name: str) -> str:
    return name.split(",")[0].strip()


def square(pair: Pair) -> Rectangle:
    """Return the largest square of an image, with the largest named object as near to its center as possible."""
    width, height = pair.image.size
    side = min(width, height)
    boxes = [obj.box for obj in pair.objects if obj.spans and obj.box is not None]
    box: Box = max(boxes, key=lambda sides: sides[2] * sides[3], default=(0, 0, width, height))
    left = min(max(box[0] + box[2] // 2 - side // 2, 0), width - side)
    top = min(max(box[1] + box[3] // 2 - side // 2, 0), height - side)
    return left, top, left + side, top + side


def cell_objects(
    pair: Pair | None, label: str, spans: tuple[Span, ...], corner: tuple[int, int], cell: int
) -> Iterator[Object]:
    """Yield the objects of a cell, in pixels of the grid."""
    named = [obj for obj in pair.objects if obj.spans] if pair is not None else []
    if pair is None or not named:
        yield Object(label, (*corner, cell, cell), None, spans)
        return
    region = square(pair)
    for obj in named:
        points = tuple(_moved(obj.points, region, corner, cell))
        if obj.box is None:
            yield Object(label, None, None, spans, points)
            continue
        mask = np.zeros((2 * cell, 2 * cell), bool)
        mask[corner[1] : corner[1] + cell, corner[0] : corner[0] + cell] = _resized(obj, pair, region, cell)
        box = mask_box(mask)
        if box is not None:  # the crop may leave an object out
            yield Object(label, box, mask if obj.mask is not None else None, spans, points)


def _resized(obj: Object, pair: Pair, region: Rectangle, cell: int) -> np.ndarray:
    """Return the pixels of an object in its cell, (cell, cell)."""
    mask = obj.mask
    if mask is None:
        assert obj.box is not None
        left, top, width, height = obj.box
        mask = np.zeros(pair.image.size[::-1], bool)
        mask[top : top + height, left : left + width] = True
    cropped = Image.fromarray(mask[region[1] : region[3], region[0] : region[2]])
    return np.array(cropped.resize((cell, cell), Image.Resampling.NEAREST))


def _moved(points: tuple[Point, ...], region: Rectangle, corner: tuple[int, int], cell: int) -> Iterator[Point]:
    """Yield the points inside the crop, in pixels of the grid."""
    left, top, right, bottom = region
    for x, y, inside in points:
        if left <= x < right and top <= y < bottom:
            column, row = (int((place + 0.5) * cell / (right - left)) for place in (x - left, y - top))
            yield Point(corner[0] + column, corner[1] + row, inside)
