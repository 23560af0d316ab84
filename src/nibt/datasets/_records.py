"""Data sets in files, which are read record by record, and those in tables, which are read row by row.

An error in one row does not affect the others.
"""

from abc import abstractmethod
from collections.abc import Iterable, Iterator
from dataclasses import KW_ONLY, dataclass, field, replace
from functools import cached_property
from hashlib import file_digest, sha256
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from nibt.data.images import SAMPLE, ImageInput, decode_image, is_turned, read_image
from nibt.data.objects import Box, Object, Point, read_box
from nibt.data.pair import Pair, read_caption
from nibt.data.segments import decoded
from nibt.datasets._captions import named_spans
from nibt.datasets._files import format_errors, natural, readable, separated
from nibt.datasets.base import (
    Dataset,
    Edges,
    FilePart,
    ImageLocation,
    ObjectAnnotation,
    Record,
    Wanted,
    check_position,
)
from nibt.errors import BadInput, BadOption
from nibt.io import read_path
from nibt.options import Count, Seed

_Item = TypeVar("_Item")


@dataclass(frozen=True)
class RecordDataset(Dataset):
    """Base class of data sets in files. A subclass reads its files in ``stream``.

    Attributes:
        folder: The folder, or a file or pattern for some data sets.
        count: The number of pairs, from the first; None means all.
        seed: The seed by which the pairs are shuffled before ``count`` is applied, so that both give a random subset;
            None keeps the order.
    """

    folder: str | Path
    _: KW_ONLY
    count: Count | None = None
    seed: Seed | None = None
    _labels: set[str] = field(default_factory=set, init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in separated(self.folder):
            read_path("folder", name)

    @abstractmethod
    def stream(self, wanted: Wanted) -> Iterator[Record | None]:
        """Yield the records in the order of the files, with None in place of records that are not wanted."""

    @property
    def root(self) -> Path:
        """The folder as a path."""
        return Path(self.folder).expanduser()

    @cached_property
    def entries(self) -> list[Record]:
        """All records, with ``count`` and ``seed`` applied."""
        records = [record for record in self.stream(lambda row: True) if record is not None]
        self._labels.update(record.label for record in records if record.label)
        return self.chosen_records(records)

    @cached_property
    def labels(self) -> tuple[str, ...]:  # pyright: ignore[reportIncompatibleVariableOverride]
        """The labels of all records, sorted, before ``count`` and ``seed`` are applied; empty without labels."""
        return tuple(sorted(self._labels)) if self.entries else ()

    def chosen_records(self, records: list[Record]) -> list[Record]:
        """Apply ``count`` and ``seed``, and number the records."""
        if self.count is not None and self.count > len(records):
            raise BadOption(f"count must be between 0 and {len(records)} for this data set (got {self.count})")
        return [replace(record, row=row) for row, record in enumerate(shuffled(records, self.seed)[: self.count])]

    def records(self, wanted: Wanted = lambda row: True) -> Iterator[Record | None]:
        if self.count is None and self.seed is None and "entries" not in vars(self):
            yield from self.stream(wanted)
        else:
            yield from (record if wanted(record.row) else None for record in self.entries)

    def known_length(self) -> int | None:
        return len(self.entries) if "entries" in vars(self) else self.quick_length()

    def quick_length(self) -> int | None:
        """Return the number of records, or None if all records must be read to count them."""
        return None

    def __len__(self) -> int:
        return len(self.entries)

    def __getitem__(self, item: int) -> Pair:
        check_position(item, len(self))
        record = self.entries[item]
        pair = self.read(record, {})
        labels = self.labels
        return replace(pair, labels=labels, label=labels.index(record.label) if record.label else None)

    def __getstate__(self) -> dict[str, Any]:
        """Return the state for pickling, without the records, since a worker gets only those that it needs."""
        return {name: value for name, value in vars(self).items() if name != "entries"}

    def read(self, record: Record, images: dict[ImageLocation, ImageInput]) -> Pair:
        if record.error:
            raise BadInput(record.error)

        image = images.get(record.image) if isinstance(record.image, str) else None
        if image is None:
            image = self.load_image(record)
        if isinstance(record.image, str):
            images[record.image] = image
        caption = read_caption(self.caption_of(record, image))
        pair = Pair(image, caption)
        if not record.annotations:
            return pair

        if isinstance(record.image, str):
            if is_turned(record.image):
                note = "boxes and masks are ignored, since they refer to the image before its EXIF rotation"
                return replace(pair, notes=(note,))

        label_map = self.label_map(record, image.size)
        labels = () if label_map is None else self.labels
        return replace(pair, objects=self._objects(record, caption, image.size), labels=labels, label_map=label_map)

    def load_image(self, record: Record) -> ImageInput:
        if record.image is None:
            raise BadInput("this row has no image")
        if isinstance(record.image, str):
            try:
                image = read_image(record.image if record.image.startswith(SAMPLE) else Path(record.image))
            except BadInput as error:  # messages have the name, which does not depend on the folder
                raise BadInput(str(error).replace(record.image, record.name or record.image)) from error
            return replace(image, source=record.name) if record.name else image

        data = record.image.read() if isinstance(record.image, FilePart) else record.image
        return decode_image(data, record.name)

    def caption_of(self, record: Record, image: ImageInput) -> str:
        """Return the caption of a record."""
        return record.captions[0] if record.captions else ""

    def mask(self, annotation: ObjectAnnotation, size: tuple[int, int], where: str) -> np.ndarray | None:
        """Return the mask of an object, (height, width), or None if it has no mask. Outlines are those of COCO."""
        with format_errors(where):
            return decoded(annotation.outline, size, where) if annotation.outline else None

    def label_map(self, record: Record, size: tuple[int, int]) -> np.ndarray | None:
        """Return the position of the label of each pixel in ``labels``, (height, width), or None if it is unknown."""
        return None

    def content(self, item: int) -> str:
        """Return a text that identifies the content of a pair. The image is identified by its bytes."""
        entry = self.entries[item]
        return repr((entry.digest(), entry.captions, entry.annotations, entry.names, entry.size, entry.error))

    def missing(self) -> str:
        for entry in self.entries:
            if entry.error:
                return entry.error
            if isinstance(entry.image, str) and not entry.digest():
                return f"{entry.where}: there is no image {entry.image}"
        return ""

    def _objects(self, entry: Record, caption: str, size: tuple[int, int]) -> tuple[Object, ...]:
        if entry.size is not None and entry.size != size:
            expected, got = (" x ".join(map(str, sides)) for sides in (entry.size, size))
            raise BadInput(
                f"{entry.where}: {entry.image} must have {expected} pixels, since its boxes were annotated at this "
                f"size (got {got}): use the images as published"
            )

        names = entry.names or {annotation.name for annotation in entry.annotations if annotation.spans is None}
        spans = named_spans(caption, names)
        where = f"{entry.where}, {Path(entry.image).name}" if isinstance(entry.image, str) else entry.where
        objects: list[Object] = []
        for annotation in entry.annotations:
            named = spans.get(annotation.name, ()) if annotation.spans is None else annotation.spans
            named = tuple((first, min(last, len(caption))) for first, last in named)
            mask = self.mask(annotation, size, entry.where)
            box = whole_box(annotation.box, size, where) if annotation.box is not None else mask_box(mask)
            if box is None and not annotation.points:  # nor a pixel in the mask: it is not there
                continue

            points = tuple(_pixel(point, size) for point in annotation.points)
            objects.append(Object(annotation.name, box=box, mask=mask, spans=named, points=points))

        return tuple(objects)


def _pixel(point: Point, size: tuple[int, int]) -> Point:
    """Return a point in pixels of an image, whose place is given as shares of the sides."""
    width, height = size
    across, down, inside = point
    return Point(min(int(across * width), width - 1), min(int(down * height), height - 1), inside)


def shuffled(items: list[_Item], seed: int | None) -> list[_Item]:
    """Return the items in a random order, from hashes of the seed that no library changes; as they are for None."""
    if seed is None:
        return items
    order = sorted(range(len(items)), key=lambda position: sha256(f"{seed}:{position}".encode()).digest())
    return [items[position] for position in order]


def whole_box(box: Edges, size: tuple[int, int], where: str) -> Box:
    """Round a box to whole pixels, at least one in each direction; edges up to a pixel outside are clipped."""
    left, top, width, height = read_box(box, f"{where}: a box")
    if min(left, top) < -1 or left + width > size[0] + 1 or top + height > size[1] + 1:
        raise BadInput(
            f"{where}: the box (left, top, width, height) must be inside the image of {size[0]} x {size[1]} pixels "
            f"(got {list(box)})"
        )

    first = [min(max(round(edge), 0), side - 1) for edge, side in zip((left, top), size, strict=True)]
    last = [
        min(max(round(edge), low + 1), side)
        for edge, low, side in zip((left + width, top + height), first, size, strict=True)
    ]
    return first[0], first[1], last[0] - first[0], last[1] - first[1]


def mask_box(mask: np.ndarray | None) -> Box | None:
    """Return the smallest box around the pixels of a mask; None without a mask, or without pixels in it."""
    if mask is None or not mask.any():
        return None

    rows = np.nonzero(mask.any(1))[0]
    columns = np.nonzero(mask.any(0))[0]
    left = int(columns[0])
    top = int(rows[0])
    return left, top, int(columns[-1]) + 1 - left, int(rows[-1]) + 1 - top


SUFFIXES = (".csv", ".tsv", ".jsonl", ".ndjson")
CHOOSE = (
    "choose columns with -D image=, caption= and key= (in Python image=, caption=, key=), and for a generator prompt= "
    "and answer="
)
REMEDY = "replace it by a complete file"


def file_hash(path: Path, tail: int | None = None) -> str:
    """Return a hash of the size and the bytes of a file, as 16 hexadecimal digits."""
    with readable(path), path.open("rb") as stream:
        size = path.stat().st_size
        stream.seek(0 if tail is None else max(0, size - tail))
        digest = file_digest(stream, "sha256").hexdigest()
    return sha256(f"{size} {digest}".encode()).hexdigest()[:16]


def files_hash(paths: Iterable[Path], tail: int | None = None) -> str:
    """Return a hash of the names and the bytes of several files, as 16 hexadecimal digits."""
    lines = "".join(f"{path.name} {file_hash(path, tail)}\n" for path in paths)
    return sha256(lines.encode()).hexdigest()[:16]


def split_files(folder: Path, split: str) -> list[Path]:
    """Return the Parquet or Arrow files of a split, in natural order of their names."""
    for place, pattern in (
        (folder / "data", f"{split}-*.parquet"),
        (folder, f"{split}-*.parquet"),
        (folder / split, "*.arrow"),
        (folder, f"{split}.parquet"),
        (folder, "data-*.arrow"),
    ):
        files = sorted((path for path in place.glob(pattern) if path.is_file()), key=lambda path: natural(path.name))
        if files:
            return files
    return []
