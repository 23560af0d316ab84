"""The base class of data sets, which give pairs by their positions, and records as a stream.

A record has the location of an image and its captions, and reading it gives the pair. A stream keeps no records in
memory, and a worker gets only those that it needs. An error that concerns one pair is reported with this pair.
"""

import json
import sys
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, fields, replace
from hashlib import sha256
from operator import index
from pathlib import Path
from typing import Any, SupportsFloat, SupportsIndex, TypeAlias, TypeVar

from nibt.data.images import SAMPLE, ImageInput, digest_of, path_digest, sample_file
from nibt.data.objects import Point, Span
from nibt.data.pair import Pair
from nibt.data.window import without_window
from nibt.datasets._files import readable
from nibt.errors import BadInput, NibtError, check_names
from nibt.io import open_bytes
from nibt.options import complete
from nibt.progress import tracked
from nibt.records import JsonObject
from nibt.registry import Plugin

_DatasetType = TypeVar("_DatasetType", bound="Dataset")
Edges: TypeAlias = tuple[float, float, float, float]


def edges(values: Iterable[SupportsFloat | str]) -> Edges:
    """Return left, top, width and height of a box in a file as numbers."""
    left, top, width, height = map(float, values)
    return left, top, width, height


Wanted: TypeAlias = Callable[[int], bool]
WHOLE_CAPTION: tuple[Span, ...] = ((0, sys.maxsize),)
"""The spans of an object that the whole caption names, whichever caption is chosen."""


class FilePart(ABC):
    """A part of a file with the bytes of an image."""

    __slots__ = ()

    @abstractmethod
    def read(self) -> bytes:
        """Read the bytes.

        Raises:
            BadInput: The file cannot be read.
        """


@dataclass(frozen=True, slots=True)
class ByteRange(FilePart):
    """Successive bytes of a file, such as a member of a tar archive."""

    path: Path
    start: int
    size: int

    def read(self) -> bytes:
        with readable(self.path), self.path.open("rb") as stream:
            stream.seek(self.start)
            return stream.read(self.size)


ImageLocation: TypeAlias = str | FilePart | bytes | None
"""The location of an image: a path (or ``sample:NAME``), a part of a file, or the bytes of an image file."""


@dataclass(frozen=True, slots=True)
class ObjectAnnotation:
    """An object as it is annotated in a file.

    Attributes:
        name: The name of the object.
        box: Left, top, width and height in pixels, as real numbers; None means those of the mask, or, with points,
            that there is no box.
        spans: The spans of the caption that name the object; None means that its name is searched for in the caption.
        outline: The mask of the object in the format of the file.
        points: Points with x and y as shares of the width and height of the image.
    """

    name: str
    box: Edges | None
    spans: tuple[Span, ...] | None = None
    outline: Any = None
    points: tuple[Point, ...] = ()


@dataclass(frozen=True, slots=True)
class Record:
    """A pair before its image is read, or the error of a pair that cannot be read.

    Attributes:
        captions: The captions, one or several.
        image: The location of the image.
        where: The location of the record in its file, for messages.
        row: The position in the data set, from 0.
        name: The name of the image, which does not depend on the folder; empty means its path.
        key: The user's identifier of the record.
        answer: The answer to the caption, which is then a prompt; None without one.
        against: A record of the caption or the image that this one is compared with; None without one.
        reference: What a log of an evaluation gives as right, such as the reference answer; None without a log.
        log_score: The score of the record in a log of an evaluation; None without a log.
        annotations: The objects of the image.
        names: The names that are searched for in the caption; empty means those of the objects.
        size: Width and height of the image that was annotated; None if the file does not have them.
        label: The label that the caption names, for data sets with labels.
        error: The message of the error; empty if the record can be read.
    """

    captions: tuple[str, ...] = ()
    image: ImageLocation = None
    where: str = ""
    row: int = 0
    name: str = ""
    key: str = ""
    answer: str | None = None
    against: "Record | None" = None
    reference: str | None = None
    log_score: float | None = None
    annotations: tuple[ObjectAnnotation, ...] = ()
    names: tuple[str, ...] = ()
    size: tuple[int, int] | None = None
    label: str = ""
    error: str = ""

    @classmethod
    def of_error(cls, error: Exception, row: int, where: str, key: str = "") -> "Record":
        """Return the record of a pair that cannot be read. Its message begins with the location."""
        text = str(error)
        return cls(row=row, where=where, key=key, error=text if text.startswith(where) else f"{where}: {text}")

    @property
    def caption(self) -> str | None:
        """The first caption; None if there are no captions."""
        return self.captions[0] if self.captions else None

    @property
    def source(self) -> str:
        """The name of the image in results."""
        return self.name or (self.image if isinstance(self.image, str) else "")

    def digest(self) -> str:
        """Compute the digest of the image, which equals ``ImageInput.digest``; empty if the file cannot be read."""
        try:
            if isinstance(self.image, str):
                is_sample = self.image.startswith(SAMPLE)
                return path_digest(str(sample_file(self.image.removeprefix(SAMPLE))) if is_sample else self.image)
            data = self.image.read() if isinstance(self.image, FilePart) else self.image
            return "" if data is None else digest_of(data, self.name)
        except (OSError, NibtError):
            return ""

    def with_bytes(self) -> "Record":
        """Return the record with the bytes of its images, for workers without access to the files."""
        if self.against is not None:
            return replace(replace(self, against=None).with_bytes(), against=self.against.with_bytes())
        if isinstance(self.image, FilePart):
            return replace(self, image=self.image.read())
        if not isinstance(self.image, str) or self.image.startswith(SAMPLE):
            return self

        try:
            path = without_window(self.image)
            name = self.name if path == self.image else self.source  # the window is a part of the name
            with open_bytes(path) as stream:
                return replace(self, image=stream.read(), name=name)
        except OSError:
            return self  # the worker reports the error


def check_position(item: object, count: int) -> None:
    """Check the position of a pair; the error of one out of range ends a loop of Python."""
    if not isinstance(item, SupportsIndex):
        raise BadInput(f"the position of a pair must be a whole number (got {item!r:.60}): for several, use list(data)")
    if not 0 <= index(item) < count:
        raise IndexError(f"item must be between 0 and {count - 1} (got {item})")


@dataclass(frozen=True)
class Dataset(Plugin, ABC):
    """Base class of data sets: sequences of pairs, whose order does not change.

    A subclass is a frozen dataclass whose fields are its options. A data set that generates its pairs overrides
    ``__len__`` and ``__getitem__``. A data set that reads files is a ``RecordDataset`` (``datasets/_records.py``).
    """

    def __new__(cls: type[_DatasetType], *arguments: object, **options: object) -> _DatasetType:
        check_names("options", options, [field.name for field in fields(cls) if field.init])
        return object.__new__(cls)

    def __post_init__(self) -> None:
        complete(self)

    @abstractmethod
    def __len__(self) -> int: ...

    @abstractmethod
    def __getitem__(self, item: int) -> Pair:
        """Return the pair at a position, with its objects if they are known.

        Raises:
            IndexError: The position is out of range.
        """

    def __iter__(self) -> Iterator[Pair]:
        return (self[item] for item in range(len(self)))

    def records(self, wanted: Wanted = lambda row: True) -> Iterator[Record | None]:
        """Yield the records in order, with None in place of records at positions that are not ``wanted``.

        Raises:
            BadInput: A file cannot be read.
        """
        for row in range(len(self)):
            yield Record(row=row) if wanted(row) else None

    def read(self, record: Record, images: dict[ImageLocation, ImageInput]) -> Pair:
        """Read the pair of a record, and add its image to ``images``, a cache of images by their paths.

        Raises:
            BadInput: The image or the caption cannot be read.
        """
        return self[record.row]

    def load_image(self, record: Record) -> ImageInput:
        """Read the image of a record.

        Raises:
            BadInput: The image is missing or damaged.
        """
        return self[record.row].image

    @property
    def labels(self) -> tuple[str, ...]:
        """The labels of the data set, the same for all pairs; empty if it has none."""
        return ()

    @property
    def has_prompts(self) -> bool:
        """Whether the captions are prompts of a generator."""
        return False

    @property
    def compares(self) -> bool:
        """Whether each record has a caption or an image that it is compared with."""
        return False

    def known_length(self) -> int | None:
        """Return the number of records, or None if all of them must be read to count them."""
        return len(self)

    def identity(self) -> JsonObject:
        """Return plain data that identifies the pairs. Jobs with different identities are different jobs."""
        record = json.dumps(self.record(), sort_keys=True, default=str)
        return {
            "kind": "dataset",
            "fingerprint": sha256(record.encode()).hexdigest()[:16],
            "contents": self.fingerprint(),
        }

    @classmethod
    def check(cls, *arguments: object, **options: object) -> str:
        """Return why a data set with these options cannot be read, or which files are missing; empty if neither holds.

        Images are not opened, so a damaged one is an error only when its pair is read.
        """
        try:
            return cls(*arguments, **options).missing()
        except NibtError as error:
            return str(error)

    def missing(self) -> str:
        """Return a message about missing images; empty if no image is missing."""
        return ""

    def fingerprint(self, count: int | None = None) -> str:
        """Return a hash of the labels and the content of the first ``count`` pairs: 16 hexadecimal digits."""
        digest = sha256(repr(self.labels).encode())
        for item in tracked(range(len(self) if count is None else min(count, len(self)))):
            digest.update(self.content(item).encode() + b"\n")
        return digest.hexdigest()[:16]

    def content(self, item: int) -> str:
        """Return a text that identifies the content of a pair, or the error of a pair that cannot be read."""
        try:
            pair = self[item]
        except NibtError as error:
            return str(error)
        return repr((pair.image.digest, pair.caption, [(obj.name, obj.box, obj.spans) for obj in pair.objects]))

    def record(self) -> JsonObject:
        """Return the name, the options and the number of pairs as plain data, for results."""
        options = {field.name: getattr(self, field.name) for field in fields(self) if field.init and field.repr}
        plain = {name: str(value) if isinstance(value, Path) else value for name, value in options.items()}
        return {"dataset": self.name, **plain, "pairs": len(self)}


# It is registered instead of inherited, since Sequence has a method `count`, which is an option here.
Sequence.register(Dataset)  # pyright: ignore[reportAttributeAccessIssue]
