"""Where the pairs of a job come from: rows in an order that never changes, read one after the other.

A row is read in two steps. The first, quick and in order, finds where its image is; the second, wherever the row is
explained, reads and decodes it. So a million rows are never in memory, and a worker gets only what it needs.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from hashlib import sha256
from pathlib import Path
from typing import Any, TypeAlias

from nibt.data.images import SAMPLE, ImageInput, decode_image, read_image, sample_file
from nibt.data.pair import Pair, read_caption
from nibt.errors import BadInput, NibtError
from nibt.io import short_digest

Wanted: TypeAlias = Callable[[int], bool]


@dataclass(frozen=True, slots=True)
class ByteRange:
    """Some bytes of a file."""

    path: Path
    start: int
    size: int

    def read(self) -> bytes:
        """The bytes.

        Raises:
            BadInput: the file cannot be read.

        """
        try:
            with self.path.open("rb") as stream:
                stream.seek(self.start)
                return stream.read(self.size)
        except OSError as error:
            raise BadInput(f"{self.path} cannot be read: {error.strerror or error}") from error


Place: TypeAlias = "str | ByteRange | bytes | None"


@dataclass(frozen=True, slots=True)
class RawRow:
    """A row that is not read yet: its number from 0, the name that its source gives it, what its image is called and
    where it is (a path, a part of a file, or the file's bytes), its caption; or the error that it is.
    """

    row: int
    key: str = ""
    name: str = ""
    image: Place = None
    caption: str | None = None
    error: str = ""

    def carried(self) -> "RawRow":
        """The same with the bytes of its image, for a worker that cannot reach the file."""
        if isinstance(self.image, ByteRange):
            return replace(self, image=self.image.read())
        if not isinstance(self.image, str) or self.image.startswith(SAMPLE):
            return self
        try:
            return replace(self, image=Path(self.image).read_bytes())
        except OSError:
            return self  # the worker says what is wrong with it


class Source(ABC):
    """Rows in their order."""

    @abstractmethod
    def facts(self) -> dict[str, Any]:
        """What it is and a fingerprint, as plain data: another one is another job."""

    @abstractmethod
    def rows(self, wanted: Wanted) -> Iterator[RawRow | None]:
        """Each row, from the first; None in the place of one that is not wanted.

        Raises:
            BadInput: what holds the rows cannot be read.

        """

    def count(self) -> int | None:
        """How many rows there are, where that is quickly told."""
        return None

    def digest(self, raw: RawRow) -> str:
        """The digest of a row's image, as ``ImageInput.digest`` has it; empty where its file cannot be read."""
        try:
            if isinstance(raw.image, str):
                path = sample_file(raw.image.removeprefix(SAMPLE)) if raw.image.startswith(SAMPLE) else raw.image
                return short_digest(path)
            data = raw.image.read() if isinstance(raw.image, ByteRange) else raw.image
            return sha256(data or b"").hexdigest()[:16]
        except (OSError, NibtError):
            return ""

    def read(self, raw: RawRow, images: dict[Place, ImageInput]) -> Pair:
        """The pair of a row. Images with a path are put into ``images``, or taken from there.

        Raises:
            BadInput: its image or its caption cannot be read.

        """
        if raw.error:
            raise BadInput(raw.error)
        caption = read_caption("" if raw.caption is None else raw.caption)
        if not isinstance(raw.image, str):
            return Pair(self.image(raw), caption)
        if raw.image not in images:
            images[raw.image] = self.image(raw)
        return Pair(images[raw.image], caption)

    def image(self, raw: RawRow) -> ImageInput:
        """The image of a row, under the name that its source gives it."""
        if raw.image is None:
            raise BadInput("there is no image in this row")
        if isinstance(raw.image, str):
            return replace(self._opened(raw.image, raw.name), source=raw.name)
        data = raw.image.read() if isinstance(raw.image, ByteRange) else raw.image
        return decode_image(data, raw.name)

    def _opened(self, path: str, name: str) -> ImageInput:
        """The image of a path; messages give its name, which is the same wherever the folder lies."""
        try:
            return read_image(path)
        except BadInput as error:
            raise BadInput(str(error).replace(path, name)) from error


def place_of(value: Any, folder: Path, row: int) -> tuple[str, Place]:
    """What an image is called, and where it is, by what a column holds: a path from the ``folder``, the bytes of a
    file, or both in a table (``path``, ``bytes``), as the package ``datasets`` has it.

    Raises:
        BadInput: it is none of these.

    """
    if isinstance(value, dict) and {"bytes", "path"} & set(value):
        if value.get("bytes") is not None:
            return value.get("path") or f"row {row}", value["bytes"]
        value = value.get("path")
    if isinstance(value, bytes):
        return f"row {row}", value
    if not isinstance(value, str) or not value:
        raise BadInput(f"the image must be a path or the bytes of a file (got {_told(value)})")
    return value, value if value.startswith(SAMPLE) else str(folder / value)


def caption_of(value: Any) -> str:
    """The caption that a column holds: a text, or a list of texts, of which the first is taken.

    Raises:
        BadInput: it is neither.

    """
    value = value[0] if isinstance(value, list | tuple) and value else value
    if not isinstance(value, str):
        raise BadInput(f"the caption must be a text (got {_told(value)})")
    if value != written(value):
        raise BadInput("the caption holds half of a surrogate pair, which is no sign: write it again in UTF-8")
    return value


def written(text: str) -> str:
    """The text as UTF-8 can have it: names of files may hold what it cannot."""
    return text.encode("utf-8", "replace").decode("utf-8")


def _told(value: Any) -> str:
    return "nothing" if value in (None, "") else type(value).__name__
