"""Grids of 2 x 2 pictures from another data set, with captions that name one to four of them.

M. Bohle, M. Fritz, B. Schiele, Convolutional Dynamic Alignment Networks for Interpretable Classifications, CVPR 2021
(the grid pointing game).
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, fields
from functools import cached_property
from pathlib import Path
from typing import Annotated, Any, NamedTuple

import numpy as np
from PIL import Image

from nibt.data.images import ImageInput
from nibt.data.objects import Box, Object, Point, Span
from nibt.data.pair import Pair
from nibt.datasets._captions import named_spans, photo_of
from nibt.datasets._draws import Draws
from nibt.datasets._opening import open_dataset
from nibt.datasets._records import RecordDataset, mask_box
from nibt.datasets.base import Dataset, Record, check_position
from nibt.errors import BadInput, BadOption
from nibt.options import Count, Keywords, OneOf, Range, Seed
from nibt.records import JsonObject

_PICTURES, _NAMED = range(2)  # the purposes of draws
_TRIES = 200
COUNT = 4
NAMED = {"one": (1, 1), "two": (2, 2), "three": (3, 3), "some": (1, COUNT), "all": (COUNT, COUNT)}

Rectangle = tuple[int, int, int, int]
"""Left, top, right and bottom in pixels, the last two exclusive."""


class LabeledPicture(NamedTuple):
    """A picture with one label, by its position in its data set, and the names of all its objects."""

    item: int
    label: str
    names: frozenset[str]


@dataclass(frozen=True)
class ImageGrid(Dataset):
    """Composites of four pictures with different labels, cropped to squares, from a data set with labels.

    The label of a picture is the name of the objects that its caption names. Pictures whose caption names no object, or
    objects with several names, are left out; so is a picture with an object that has the label of another cell. The
    caption of a grid is "a photo of a cat and a dog", and its words name the objects of their cells.

    Attributes:
        folder: The data set: ``NAME:FOLDER``, ``NAME``, a file or folder of pairs, or a ``Dataset``.
        count: The number of grids. A picture may be in several of them.
        seed: The seed of all draws. Each item is drawn by itself.
        cell: The side of a cell in pixels.
        named: The number of cells that a caption names: "one", "two", "three", "all" or "some" (one to four).
        truth: The ground truth: "objects" (the boxes, masks or points of the pictures; a whole cell where a picture has
            none), or "cells".
        options: A mapping with options of the data set, if it is chosen by its name.
    """

    folder: str | Path | Dataset
    count: Count = 1000
    seed: Seed = 0
    cell: Annotated[int, Range(8, 4096)] = 112
    named: Annotated[str, OneOf(NAMED)] = "some"
    truth: Annotated[str, OneOf(("objects", "cells"))] = "objects"
    options: Keywords = field(default_factory=dict)

    def __post_init__(self) -> None:
        super().__post_init__()
        if not isinstance(self.options, Mapping):
            raise BadOption(f"options must be a mapping of the options of the data set (got {self.options!r})")

        labels = sorted(self._by_label)
        if len(labels) < COUNT:
            got = f"{len(labels)}: {', '.join(labels)}" if labels else "none"
            raise BadInput(
                f"a grid needs a data set with at least {COUNT} labels, the names of objects that its captions name "
                f"({_title(self.folder)} has {got}): use another one, such as tiny_imagenet, coco or scenes"
            )

    @cached_property
    def source(self) -> Dataset:
        """The data set of the pictures."""
        return self.folder if isinstance(self.folder, Dataset) else open_dataset(str(self.folder), self.options)

    @cached_property
    def _by_label(self) -> dict[str, list[LabeledPicture]]:
        by_label: dict[str, list[LabeledPicture]] = {}
        for picture in labeled(self.source):
            by_label.setdefault(picture.label, []).append(picture)
        return by_label

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, item: int) -> Pair:
        check_position(item, self.count)
        pictures = self.pictures(item)
        caption, spans = self._caption(item)
        image = Image.new("RGB", (2 * self.cell, 2 * self.cell))
        objects: list[Object] = []
        for place, picture in enumerate(pictures):
            corner = place % 2 * self.cell, place // 2 * self.cell
            pair = self.source[picture.item]
            region = square(pair)
            cropped = pair.image.pil_image.convert("RGB").crop(region)
            image.paste(cropped.resize((self.cell, self.cell), Image.Resampling.BICUBIC), corner)
            objects += cell_objects(
                pair if self.truth == "objects" else None,
                picture.label,
                spans=spans.get(place, ()),
                corner=corner,
                cell=self.cell,
            )

        return Pair(ImageInput(image, f"grid:{self.seed}:{item}"), caption, tuple(objects))

    def pictures(self, item: int) -> tuple[LabeledPicture, ...]:
        """Return the four pictures of a grid: upper left, upper right, lower left, lower right."""
        draws = Draws(self.seed, item, _PICTURES)
        labels = sorted(self._by_label)
        for _ in range(_TRIES):
            drawn = tuple(draws.one_of(self._by_label[label]) for label in draws.several_of(labels, COUNT))
            if not any(cell.label in picture.names for cell in drawn for picture in drawn if cell is not picture):
                return drawn

        raise BadInput(
            f"{_title(self.folder)} has no four pictures for the grid {item} in which no other picture's label occurs "
            f"(of {_TRIES} that were drawn): use a data set with more labels"
        )

    def content(self, item: int) -> str:
        contents = [(picture.label, self.source.content(picture.item)) for picture in self.pictures(item)]
        return repr((self._caption(item), contents))

    def missing(self) -> str:
        return self.source.missing()

    def record(self) -> JsonObject:
        folder = self.source.record() if isinstance(self.folder, Dataset) else str(self.folder)
        options = {option.name: getattr(self, option.name) for option in fields(self)}
        return {"dataset": self.name, **options, "folder": folder, "options": dict(self.options), "pairs": len(self)}

    def __getstate__(self) -> dict[str, Any]:
        """Return the state for pickling, without the labels of the data set."""
        return {name: value for name, value in vars(self).items() if name not in ("source", "_by_label")}

    def _caption(self, item: int) -> tuple[str, dict[int, tuple[Span, ...]]]:
        """Draw the cells that the caption names, and return it with the spans that name each of these cells."""
        draws = Draws(self.seed, item, _NAMED)
        places = draws.several_of(range(COUNT), draws.between(*NAMED[self.named]))
        pictures = self.pictures(item)
        caption, spans = photo_of(*(pictures[place].label for place in places))
        return caption, {place: (span,) for place, span in zip(places, spans, strict=True)}


def _title(folder: str | Path | Dataset) -> str:
    return str(folder.name) if isinstance(folder, Dataset) else repr(str(folder))


def labeled(data: Dataset) -> Iterator[LabeledPicture]:
    """Yield the pictures of a data set whose captions name objects of one name. Images in files are not read."""
    for item in range(len(data)):
        if isinstance(data, RecordDataset):
            named, names = _names_of_record(data.entries[item])
        else:
            objects = data[item].objects
            named = {obj.name for obj in objects if obj.spans}
            names = {obj.name for obj in objects}
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

    crop = square(pair)
    for obj in named:
        points = _points_in_crop(obj.points, crop, corner, cell)
        if obj.box is None:
            yield Object(label, box=None, spans=spans, points=points)
            continue

        mask = _mask_in_grid(_seen(obj.mask, obj.box, pair.image.size), crop, corner, cell)
        box = mask_box(mask)
        if box is not None:  # the crop may leave an object out
            yield Object(label, box=box, mask=mask if obj.mask is not None else None, spans=spans, points=points)


def _points_in_crop(points: Iterable[Point], crop: Rectangle, corner: tuple[int, int], cell: int) -> tuple[Point, ...]:
    """Return the points of an object that are inside the crop of its picture, in pixels of the grid."""
    left, top, right, bottom = crop
    cropped: tuple[Point, ...] = ()
    for x, y, inside in points:
        if left <= x < right and top <= y < bottom:
            column = int((x - left + 0.5) * cell / (right - left))
            row = int((y - top + 0.5) * cell / (right - left))
            cropped += (Point(corner[0] + column, corner[1] + row, inside),)

    return cropped


def _seen(mask: np.ndarray | None, box: Box, size: tuple[int, int]) -> np.ndarray:
    """Return the mask of an object in its picture, or that of its box."""
    if mask is not None:
        return mask

    width, height = size
    seen = np.zeros((height, width), bool)
    left, top, across, down = box
    seen[top : top + down, left : left + across] = True
    return seen


def _mask_in_grid(seen: np.ndarray, crop: Rectangle, corner: tuple[int, int], cell: int) -> np.ndarray:
    """Return a mask of a picture in pixels of the grid, where its crop fills a cell."""
    left, top, right, bottom = crop
    cropped = Image.fromarray(seen[top:bottom, left:right]).resize((cell, cell), Image.Resampling.NEAREST)
    mask = np.zeros((2 * cell, 2 * cell), bool)
    mask[corner[1] : corner[1] + cell, corner[0] : corner[0] + cell] = np.array(cropped)
    return mask
