"""The annotated objects of an image."""

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any, NamedTuple, TypeAlias

import numpy as np

from nibt.data.images import ImageInput
from nibt.errors import BadInput

Box: TypeAlias = tuple[int, int, int, int]
Span: TypeAlias = tuple[int, int]


class Point(NamedTuple):
    """A point of an image that was labeled.

    Attributes:
        x: The column of its pixel, from the left.
        y: The row of its pixel, from the top.
        inside: Whether the point is on the object.
    """

    x: float
    y: float
    inside: bool


@dataclass(frozen=True)
class Object:
    """An annotated object of an image.

    Attributes:
        name: The name of the object.
        box: Left, top, width and height in pixels of the upright image; None if only points were labeled.
        mask: True on the pixels of the object, of the image's height and width; None if unknown.
        spans: The first character, and the last one plus 1, of each place in the caption that names the object.
        points: Points that were labeled as on the object or not on it.
        without: Draws the image without the object, if that is possible.
    """

    name: str
    box: Box | None
    mask: np.ndarray | None = field(default=None, repr=False)
    spans: tuple[Span, ...] = ()
    points: tuple[Point, ...] = ()
    without: Callable[[], ImageInput] | None = field(default=None, repr=False, compare=False)

    @property
    def has_area(self) -> bool:
        """Whether there is a mask or a box, and not only points."""
        return self.mask is not None or self.box is not None


def check_objects(objects: object, size: tuple[int, int], caption: str) -> None:
    """Check the names, boxes, masks, points and spans of the objects of a pair."""
    if not isinstance(objects, tuple | list):
        raise BadInput(f"objects must be a tuple of Objects (got {type(objects).__name__})")

    for item in objects:
        if not isinstance(item, Object):
            raise BadInput(f"objects must have the type Object (got {type(item).__name__})")
        if not isinstance(item.name, str):  # empty for an object without a name
            raise BadInput(f"the name of an object must be a text (got {item.name!r:.50})")

        named = f"of the object {item.name!r:.50}"
        if item.box is not None:
            _check_box(item.box, named)
        if item.mask is not None:
            _check_mask(item.mask, size, named)
        are_points = isinstance(item.points, tuple) and all(
            isinstance(point, Point) and _are_numbers(point[:2]) and isinstance(point.inside, bool | np.bool_)
            for point in item.points
        )
        if not are_points:
            raise BadInput(
                f"the points {named} must be a tuple of Points of finite numbers, on the object or not (got "
                f"{item.points!r:.100})"
            )

        check_spans(caption, item.spans, f"the spans {named}")


def _check_box(box: object, named: str) -> None:
    if not _are_numbers(box):
        raise BadInput(f"the box {named} must be left, top, width and height as numbers (got {box!r:.100})")
    read_box(box, f"the box {named}")


def _check_mask(mask: object, size: tuple[int, int], named: str) -> None:
    """Check that a mask tells for each pixel of an image, of a size (width, height), whether it is of an object."""
    if not (isinstance(mask, np.ndarray) and mask.dtype == bool):
        got = mask.dtype if isinstance(mask, np.ndarray) else type(mask).__name__
        raise BadInput(f"the mask {named} must be a NumPy array of true and false (got {got})")

    shape = (size[1], size[0])
    if mask.shape != shape:
        raise BadInput(f"the mask {named} must have the shape of the image, {shape} (got {mask.shape})")


def check_spans(caption: str, spans: object, name: str) -> None:
    """Check places of words in a caption."""
    are_spans = isinstance(spans, tuple) and all(
        isinstance(span, tuple)
        and len(span) == 2
        and _are_numbers(span, (int, np.integer))
        and 0 <= span[0] < span[1] <= len(caption)
        for span in spans
    )
    if not are_spans:
        raise BadInput(
            f"{name} must be a tuple of places (first, last + 1) in the caption, which has {len(caption)} characters "
            f"(got {spans!r:.100})"
        )


def _are_numbers(values: object, kinds: tuple[type, ...] = (int, float, np.number)) -> bool:
    """Return whether values are finite numbers in a tuple, a list or an array; true and false are none."""
    return isinstance(values, tuple | list | np.ndarray) and all(
        isinstance(value, kinds) and not isinstance(value, bool) and -1e12 < value < 1e12 for value in values
    )


def check_labels(labels: object, label: object, label_map: object, size: tuple[int, int]) -> None:
    """Check the labels of a pair, the position of its own label, and its label map."""
    if not isinstance(labels, tuple) or not labels or not _are_labels(labels):
        raise BadInput(f"labels must be a tuple of different texts that are not blank (got {labels!r:.100})")
    if label is not None and (type(label) is not int or not 0 <= label < len(labels)):
        raise BadInput(f"label must be the position of a label, from 0 to {len(labels) - 1} (got {label!r:.50})")
    if label_map is None:
        return
    if not isinstance(label_map, np.ndarray) or label_map.dtype.kind not in "iu":
        got = label_map.dtype if isinstance(label_map, np.ndarray) else type(label_map).__name__
        raise BadInput(f"label_map must be a NumPy array of whole numbers (got {got})")

    width, height = size
    if label_map.shape != (height, width):
        raise BadInput(f"label_map must have the shape of the image, {(height, width)} (got {label_map.shape})")

    low = int(label_map.min())
    high = int(label_map.max())
    if low < -1 or high >= len(labels):
        raise BadInput(
            f"label_map must have the positions of labels, 0 to {len(labels) - 1}, or -1 for ignored pixels (got {low} "
            f"to {high})"
        )


@lru_cache(maxsize=16)
def _are_labels(labels: tuple[object, ...]) -> bool:
    """Return whether labels are different texts that are not blank."""
    return len(set(labels)) == len(labels) and all(isinstance(label, str) and label.strip() for label in labels)


def read_box(box: Any, name: str = "a box") -> tuple[float, float, float, float]:
    """Return left, top, width and height of a box in pixels as numbers."""
    try:
        left, top, width, height = map(float, box)
    except (TypeError, ValueError):
        left = top = width = height = math.nan

    if not all(map(math.isfinite, (left, top, width, height))) or min(width, height) < 0:
        raise BadInput(
            f"{name} must be left, top, width and height in pixels, numbers of which the last two are at least 0 "
            f"(got {box!r:.100})"
        )
    return left, top, width, height
