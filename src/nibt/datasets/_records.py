"""Data sets in files, which are read record by record, and those in tables, which are read row by row.

An error in one row does not affect the others.
"""

from abc import abstractmethod
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import KW_ONLY, dataclass, field, replace
from functools import cached_property
from hashlib import file_digest, sha256
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from nibt.data import parquet
from nibt.data.images import SAMPLE, ImageInput, decode_image, open_image, read_image
from nibt.data.pair import Box, Object, Pair, Point, read_box, read_caption
from nibt.data.segments import decoded
from nibt.datasets._captions import named_spans
from nibt.datasets._files import format_errors, natural, readable
from nibt.datasets.base import Dataset, Edges, FilePart, ImageLocation, ObjectAnnotation, Record, Wanted
from nibt.errors import BadInput, BadOption
from nibt.options import Count, Seed

_ORIENTATION = 0x0112  # the EXIF tag of the orientation
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
        if not 0 <= item < len(self):
            raise IndexError(f"item must be between 0 and {len(self) - 1} (got {item})")
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
            with open_image(Path(record.image), record.image) as opened:
                is_turned = opened.getexif().get(_ORIENTATION, 1) not in (0, 1)
            if is_turned:
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
            if box is not None or annotation.points:  # an object without a box and a pixel in the mask is not there
                points: tuple[Point, ...] = ()
                for across, down, inside in annotation.points:  # shares of the sides
                    column, line = min(int(across * size[0]), size[0] - 1), min(int(down * size[1]), size[1] - 1)
                    points += (Point(column, line, inside),)
                objects.append(Object(annotation.name, box, mask, named, points))
        return tuple(objects)


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
    rows, columns = np.nonzero(mask.any(1))[0], np.nonzero(mask.any(0))[0]
    left, top = int(columns[0]), int(rows[0])
    return left, top, int(columns[-1]) + 1 - left, int(rows[-1]) + 1 - top


SUFFIXES = (".csv", ".tsv", ".jsonl", ".ndjson")
CHOOSE = (
    "choose columns with -D image=, caption= and key= (in Python image=, caption=, key=), and for a generator prompt= "
    "and answer="
)
REMEDY = "replace it by a complete file"


@dataclass(frozen=True, kw_only=True)
class TableDataset(RecordDataset):
    """Base class of data sets in tables.

    Attributes:
        image: The column of images.
        caption: The column of captions.
        key: The column with the user's identifiers of rows.
        prompt: The column of prompts of a generator, which take the place of captions.
        answer: The column of answers to the prompts, where an empty one is not known; None without answers.
    """

    image: str = "image"
    caption: str = "caption"
    key: str | None = None
    prompt: str | None = field(default=None, repr=False)
    answer: str | None = field(default=None, repr=False)

    @property
    def has_prompts(self) -> bool:
        return self.prompt is not None

    @property
    def columns(self) -> tuple[str, ...]:
        """The columns that are read."""
        return (self.image, self.prompt or self.caption, *filter(None, (self.key, self.answer)))

    @abstractmethod
    def column_names(self) -> Sequence[str]:
        """Return the names of all columns; those of a file of JSON lines are the keys of its first row."""

    def row_record(self, row: int, values: Any, folder: Path, where: str) -> Record:
        """Build the record of a row; a row that cannot be read gives a record with its error."""
        if isinstance(values, BadInput):
            return Record.of_error(values, row, where)
        if not isinstance(values, dict):
            error = BadInput(f"{where} must be an object with {' and '.join(self.columns)} (got {values!r:.60})")
            return Record.of_error(error, row, where)
        key = ""
        try:
            with format_errors(where):
                key = str(values[self.key]) if self.key else ""
                name, location = image_location(values[self.image], folder, row)
                text = caption_text(values[self.prompt or self.caption], "prompt" if self.prompt else "caption")
                value = values.get(self.answer) if self.answer else None
                answer = None if value in (None, "") else caption_text(value, "answer")
                return Record((text,), location, where, row, name, key, answer)
        except BadInput as error:
            return Record.of_error(error, row, where, key)


def image_location(value: Any, folder: Path, row: int) -> tuple[str, ImageLocation]:
    """Return the name and the location of an image."""
    if isinstance(value, dict) and {"bytes", "path"} & set(value):
        if value.get("bytes") is not None:
            return value.get("path") or f"row {row}", value["bytes"]
        value = value.get("path")
    if isinstance(value, bytes):
        return f"row {row}", value
    if not isinstance(value, str) or not value:
        raise BadInput(f"the image must be a path or the bytes of a file (got {_type_name(value)})")
    return value, value if value.startswith(SAMPLE) else str(folder / value)


def caption_text(value: Any, name: str = "caption") -> str:
    """Return the caption of a row, or another text."""
    value = value[0] if isinstance(value, list | tuple) and value else value
    if not isinstance(value, str):
        raise BadInput(f"the {name} must be a text (got {_type_name(value)})")
    if value != as_utf8(value):
        raise BadInput(f"the {name} must be valid Unicode (got an unpaired surrogate): save it in UTF-8")
    return value


def as_utf8(text: str) -> str:
    """Return a text with characters replaced that UTF-8 cannot encode, which may occur in names of files."""
    return text.encode("utf-8", "replace").decode("utf-8")


def _type_name(value: Any) -> str:
    return "nothing" if value in (None, "") else type(value).__name__


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


@dataclass(frozen=True, slots=True)
class TableCell(FilePart):
    """A cell of a Parquet or Arrow file with the bytes of an image, or with a mapping that has them as ``bytes``."""

    path: Path
    row: int
    column: str

    def read(self) -> bytes:
        value = parquet.read_cell(self.path, self.row, self.column, REMEDY)
        data = value.get("bytes") if isinstance(value, dict) else value
        if not isinstance(data, bytes):
            raise BadInput(
                f"{self.path.name}, row {self.row}: {self.column} must have the bytes of an image "
                f"(got {'nothing' if data is None else type(data).__name__})"
            )
        return data


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
