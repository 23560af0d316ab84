"""The contract of data sets: pairs by number, and as a stream of records.

A record says where the image of a pair is and what its caption is; reading it gives the pair. A stream of records
keeps nothing in memory, so a job of a million pairs needs no more room than one of a hundred, and a worker is sent
only what it needs. What is wrong with one pair is told with this pair.
"""

import json
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, fields, replace
from hashlib import sha256
from pathlib import Path
from typing import Any, TypeAlias

from nibt.data.images import SAMPLE, ImageInput, sample_file
from nibt.data.pair import Pair, Span
from nibt.errors import BadInput, NibtError, Unsupported
from nibt.io import short_digest
from nibt.progress import tracked
from nibt.registry import Plugin

Edges: TypeAlias = tuple[float, float, float, float]
Wanted: TypeAlias = Callable[[int], bool]


@dataclass(frozen=True, slots=True)
class ByteRange:
    """Some bytes of a file, such as a member of a tar archive."""

    path: Path
    start: int
    size: int

    def read(self) -> bytes:
        """Read the bytes.

        Raises:
            BadInput: The file cannot be read.

        """
        try:
            with self.path.open("rb") as stream:
                stream.seek(self.start)
                return stream.read(self.size)
        except OSError as error:
            raise BadInput(f"{self.path} cannot be read: {error.strerror or error}") from error


ImageLocation: TypeAlias = str | ByteRange | bytes | None
"""A path (or ``sample:NAME``), a part of a file, or the bytes of an image file."""


@dataclass(frozen=True, slots=True)
class ObjectAnnotation:
    """An object as its file has it.

    Attributes:
        name: The name of the object.
        box: Left, top, width and height in pixels; need not be whole numbers.
        spans: Where the caption names it; None means that its name is searched for in the caption.
        outline: Its mask in the format of the file.

    """

    name: str
    box: Edges
    spans: tuple[Span, ...] | None = None
    outline: Any = None


@dataclass(frozen=True, slots=True)
class Record:
    """A pair before its image is read: an image with one or several captions; or the error that takes its place.

    Attributes:
        captions: The captions.
        image: Where the image is.
        where: The place of the record in its file, for messages.
        row: The position in the data set, from 0.
        name: The name of the image, the same wherever the folder lies; empty means its path.
        key: The user's own name for the record.
        annotations: The objects of the image.
        names: All names that the caption is searched for; empty means those of the objects.
        size: Width and height of the image for which the boxes were made, if the file says so.
        error: Why the record cannot be read.

    """

    captions: tuple[str, ...] = ()
    image: ImageLocation = None
    where: str = ""
    row: int = 0
    name: str = ""
    key: str = ""
    annotations: tuple[ObjectAnnotation, ...] = ()
    names: tuple[str, ...] = ()
    size: tuple[int, int] | None = None
    error: str = ""

    @property
    def caption(self) -> str | None:
        """The first caption; None if there is none."""
        return self.captions[0] if self.captions else None

    @property
    def source(self) -> str:
        """What the image is called in results."""
        return self.name or (self.image if isinstance(self.image, str) else "")

    def digest(self) -> str:
        """Return the digest of the image, equal to ``ImageInput.digest``; empty if its file cannot be read."""
        try:
            if isinstance(self.image, str):
                is_sample = self.image.startswith(SAMPLE)
                return short_digest(sample_file(self.image.removeprefix(SAMPLE)) if is_sample else self.image)
            data = self.image.read() if isinstance(self.image, ByteRange) else self.image
            return "" if data is None else sha256(data).hexdigest()[:16]
        except (OSError, NibtError):
            return ""

    def with_bytes(self) -> "Record":
        """Return the record with the bytes of its image, for a worker that cannot reach the file."""
        if isinstance(self.image, ByteRange):
            return replace(self, image=self.image.read())
        if not isinstance(self.image, str) or self.image.startswith(SAMPLE):
            return self
        try:
            return replace(self, image=Path(self.image).read_bytes())
        except OSError:
            return self  # the worker says what is wrong with it


@dataclass(frozen=True)
class Dataset(Plugin, ABC):
    """Pairs by their position, from 0; the same position always gives the same pair.

    A subclass is a frozen dataclass whose fields are its options. A data set
    that draws its pairs overrides ``__len__`` and ``__getitem__``; one that reads them from files is a
    ``RecordDataset`` (``datasets/_records.py``).
    """

    @abstractmethod
    def __len__(self) -> int: ...

    @abstractmethod
    def __getitem__(self, item: int) -> Pair:
        """Return one pair, with what is known of where its objects are.

        Raises:
            IndexError: There is no such pair.

        """

    def __iter__(self) -> Iterator[Pair]:
        return (self[item] for item in range(len(self)))

    def records(self, wanted: Wanted = lambda row: True) -> Iterator[Record | None]:
        """Yield each record in order; None in place of one that is not wanted.

        Raises:
            BadInput: The file that holds the records cannot be read.

        """
        for row in range(len(self)):
            yield Record(row=row) if wanted(row) else None

    def read(self, record: Record, images: dict[ImageLocation, ImageInput]) -> Pair:
        """Read the pair of a record. Images with a path are put into ``images``, or taken from there.

        Raises:
            BadInput: The image or the caption cannot be read.

        """
        return self[record.row]

    def load_image(self, record: Record) -> ImageInput:
        """Read the image of a record.

        Raises:
            BadInput: It is missing or broken.

        """
        return self[record.row].image

    def known_length(self) -> int | None:
        """Return the number of records if it is known without reading all of them."""
        return len(self)

    def identity(self) -> dict[str, Any]:
        """Return plain data that differs for other pairs: a job of another identity is another job."""
        record = json.dumps(self.record(), sort_keys=True, default=str)
        return {
            "kind": "dataset",
            "fingerprint": sha256(record.encode()).hexdigest()[:16],
            "contents": self.fingerprint(),
        }

    @classmethod
    def check(cls, *arguments: Any, **options: Any) -> str:
        """Return what keeps a data set from being read, in plain words; empty if nothing does.

        Takes what the class takes, and looks for every image as well.
        """
        try:
            return cls(*arguments, **options).missing()
        except (BadInput, Unsupported) as error:
            return str(error)

    def missing(self) -> str:
        """Return which of the images are missing, in plain words; empty if none is."""
        return ""

    def fingerprint(self, count: int | None = None) -> str:
        """Return 16 hexadecimal digits of the images, captions and annotations of the first ``count`` pairs."""
        digest = sha256()
        for item in tracked(range(len(self) if count is None else min(count, len(self)))):
            digest.update(self.content(item).encode() + b"\n")
        return digest.hexdigest()[:16]

    def content(self, item: int) -> str:
        """Return a text that differs for any other pair in this position; for a pair that cannot be read, the error."""
        try:
            pair = self[item]
        except NibtError as error:
            return str(error)
        return repr((pair.image.digest, pair.caption, [(one.name, one.box, one.spans) for one in pair.objects]))

    def record(self) -> dict[str, Any]:
        """Return what results store of a data set: its name, its options and its number of pairs."""
        options = {field.name: getattr(self, field.name) for field in fields(self) if field.init and field.repr}
        plain = {name: str(value) if isinstance(value, Path) else value for name, value in options.items()}
        return {"dataset": self.name, **plain, "pairs": len(self)}


# By name only: Sequence has a method `count`, and here that is an option.
Sequence.register(Dataset)  # pyright: ignore[reportAttributeAccessIssue]
