"""Data sets that are read from files, record by record."""

import math
from abc import abstractmethod
from collections.abc import Iterator
from dataclasses import KW_ONLY, dataclass, replace
from functools import cached_property
from hashlib import sha256
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from PIL import Image

from nibt.data.images import ImageInput, decode_image, read_image
from nibt.data.pair import Box, Object, Pair, read_caption
from nibt.datasets._names import named_spans
from nibt.datasets.base import ByteRange, Dataset, Edges, ImageLocation, ObjectAnnotation, Record, Wanted
from nibt.errors import BadInput, BadOption

_ORIENTATION = 0x0112  # the EXIF tag that says how an image is turned
_Item = TypeVar("_Item")


@dataclass(frozen=True)
class RecordDataset(Dataset):
    """Pairs of files, in an order that is the same on every machine.

    ``count`` takes the first pairs only; ``seed`` shuffles before that, so that both give a random subset. A subclass
    reads its files in ``stream``.
    """

    folder: str | Path
    _: KW_ONLY
    count: int | None = None
    seed: int | None = None

    def __post_init__(self) -> None:
        if self.count is not None and self.count < 0:
            raise BadOption(f"count must not be negative (got {self.count})")
        if self.seed is not None and self.seed < 0:
            raise BadOption(f"seed must not be negative (got {self.seed})")

    @abstractmethod
    def stream(self, wanted: Wanted) -> Iterator[Record | None]:
        """Yield the records in the order of the files, without ``count`` and ``seed``; None for those not wanted.

        Raises:
            BadInput: A file cannot be read.

        """

    @property
    def root(self) -> Path:
        """The folder as a path."""
        return Path(self.folder).expanduser()

    @cached_property
    def entries(self) -> list[Record]:
        """All records, with ``count`` and ``seed`` applied."""
        return self.chosen_records([record for record in self.stream(lambda row: True) if record is not None])

    def chosen_records(self, records: list[Record]) -> list[Record]:
        """Apply ``count`` and ``seed``, and number the records."""
        if self.count is not None and self.count > len(records):
            raise BadOption(f"count must lie in 0..{len(records)} for this data set (got {self.count})")
        return [replace(record, row=row) for row, record in enumerate(shuffled(records, self.seed)[: self.count])]

    def records(self, wanted: Wanted = lambda row: True) -> Iterator[Record | None]:
        if self.count is None and self.seed is None and "entries" not in vars(self):
            yield from self.stream(wanted)
        else:
            yield from (record if wanted(record.row) else None for record in self.entries)

    def known_length(self) -> int | None:
        return len(self.entries) if "entries" in vars(self) else self.quick_length()

    def quick_length(self) -> int | None:
        """Return the number of records if the files tell it quickly."""
        return None

    def __len__(self) -> int:
        return len(self.entries)

    def __getitem__(self, item: int) -> Pair:
        """Return one pair; its image is read now.

        Raises:
            IndexError: There is no such pair.
            BadInput: Its image is missing or broken, or its boxes do not fit it.

        """
        if not 0 <= item < len(self):
            raise IndexError(f"item must lie in 0..{len(self) - 1} (got {item})")
        return self.read(self.entries[item], {})

    def __getstate__(self) -> dict[str, Any]:
        """Leave the records behind: a worker is sent its own."""
        return {name: value for name, value in vars(self).items() if name != "entries"}

    def read(self, record: Record, images: dict[ImageLocation, ImageInput]) -> Pair:
        if record.error:
            raise BadInput(record.error)
        image = images.get(record.image) if isinstance(record.image, str) else None
        if image is None:
            image = self.load_image(record)
        if isinstance(record.image, str):
            images[record.image] = image
        caption = read_caption(self.chosen(record, image))
        if not record.annotations:
            return Pair(image, caption)
        if isinstance(record.image, str) and _is_turned(Path(record.image)):
            note = "boxes were left out: the file says that its image is to be turned, and they were made before"
            return Pair(image, caption, notes=(note,))
        return Pair(image, caption, self._objects(record, caption, image.size))

    def load_image(self, record: Record) -> ImageInput:
        """Read the image of a record, under the name that its source gives it.

        Raises:
            BadInput: It is missing or broken.

        """
        if record.image is None:
            raise BadInput("there is no image in this row")
        if isinstance(record.image, str):
            image = _read_path(record.image, record.name)
            return replace(image, source=record.name) if record.name else image
        data = record.image.read() if isinstance(record.image, ByteRange) else record.image
        return decode_image(data, record.name)

    def chosen(self, record: Record, image: ImageInput) -> str:
        """Return the caption of a record."""
        return record.captions[0] if record.captions else ""

    def mask(self, annotation: ObjectAnnotation, size: tuple[int, int], where: str) -> np.ndarray | None:
        """Return the mask of an object, (height, width) and true on it; None if there is none."""
        return None

    def content(self, item: int) -> str:
        """By the bytes of the image's file, which need not be decoded."""
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
                f"{entry.where}: the boxes are of an image of {expected} pixels, and {entry.image} has "
                f"{got}: take the images as they were published"
            )
        names = entry.names or {one.name for one in entry.annotations if one.spans is None}
        spans = named_spans(caption, names)
        where = f"{entry.where}, {Path(entry.image).name}" if isinstance(entry.image, str) else entry.where
        return tuple(
            Object(
                one.name,
                whole_box(one.box, size, where),
                self.mask(one, size, entry.where),
                one.spans if one.spans is not None else spans.get(one.name, ()),
            )
            for one in entry.annotations
        )


def _read_path(path: str, name: str) -> ImageInput:
    """The image of a path; messages give its name, which is the same wherever the folder lies."""
    try:
        return read_image(path if path.startswith("sample:") else Path(path))
    except BadInput as error:
        raise BadInput(str(error).replace(path, name) if name else str(error)) from error


def shuffled(items: list[_Item], seed: int | None) -> list[_Item]:
    """Return the items in an order that depends on the seed and their number; as they are without a seed.

    The order is drawn from hashes, since the generators of a library may change with its version.
    """
    if seed is None:
        return items
    order = sorted(range(len(items)), key=lambda position: sha256(f"{seed}:{position}".encode()).digest())
    return [items[position] for position in order]


def whole_box(box: Edges, size: tuple[int, int], where: str) -> Box:
    """Return a box in whole pixels: each edge goes to the nearest, and at least one pixel is left.

    An edge may lie up to one pixel outside of the image, as in published files, and is drawn in.

    Raises:
        BadInput: The box is further outside, has a negative side, or holds a number that is not finite.

    """
    left, top, width, height = map(float, box)
    if not all(map(math.isfinite, (left, top, width, height))) or min(width, height) < 0:
        raise BadInput(f"{where}: a box is left, top, width and height in pixels (got {list(box)})")
    if min(left, top) < -1 or left + width > size[0] + 1 or top + height > size[1] + 1:
        raise BadInput(
            f"{where}: the box {list(box)} (left, top, width, height) lies outside of the image, which is "
            f"{size[0]} x {size[1]} pixels"
        )
    first = [min(max(round(edge), 0), side - 1) for edge, side in zip((left, top), size, strict=True)]
    last = [
        min(max(round(edge), low + 1), side)
        for edge, low, side in zip((left + width, top + height), first, size, strict=True)
    ]
    return first[0], first[1], last[0] - first[0], last[1] - first[1]


def _is_turned(path: Path) -> bool:
    with Image.open(path) as image:
        return image.getexif().get(_ORIENTATION, 1) not in (0, 1)
