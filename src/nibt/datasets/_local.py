"""Data sets in a local folder: what they share. A subclass reads its tables into entries; images stay on the disk
until their item is asked for.
"""

import math
from abc import abstractmethod
from collections.abc import Iterable
from dataclasses import KW_ONLY, dataclass
from functools import cached_property
from hashlib import sha256
from pathlib import Path
from typing import Any, ClassVar, TypeAlias, TypeVar

import numpy as np
from PIL import Image

from nibt.data.images import ImageInput, read_image
from nibt.data.pair import Box, Object, Pair, Span, read_caption
from nibt.datasets._files import natural
from nibt.datasets._names import named_spans
from nibt.datasets.base import Dataset
from nibt.errors import BadInput, BadOption
from nibt.io import short_digest

_ORIENTATION = 0x0112  # the EXIF tag that says how an image is turned
Edges: TypeAlias = tuple[float, float, float, float]
_Any = TypeVar("_Any")


@dataclass(frozen=True, slots=True)
class ObjectAnnotation:
    """An object as its file has it. ``box`` is left, top, width and height in pixels, whole or not; without ``spans``
    its name is looked for in the caption; ``outline`` is its mask as the file has it.
    """

    name: str
    box: Edges
    spans: tuple[Span, ...] | None = None
    outline: Any = None


@dataclass(frozen=True, slots=True)
class Record:
    """A pair, or one image with several captions, before the image is read.

    ``where`` is its place in a file, unlike that of any other; ``names`` are all that a caption is searched for;
    ``size`` is the width and height that the boxes were made for, where the file says so.
    """

    image: Path
    captions: tuple[str, ...]
    where: str
    marks: tuple[ObjectAnnotation, ...] = ()
    names: tuple[str, ...] = ()
    size: tuple[int, int] | None = None


@dataclass(frozen=True)
class LocalDataset(Dataset):
    """Pairs of a folder, in an order that is the same on every machine.

    ``count`` takes the first so many; ``seed`` shuffles before that, so both give a random subset. ``title``,
    ``layout`` and ``home`` are what is said of a data set of which something is lacking.
    """

    title: ClassVar[str] = ""
    layout: ClassVar[str] = ""
    home: ClassVar[str] = ""
    folder: str | Path
    _: KW_ONLY
    count: int | None = None
    seed: int | None = None

    def __post_init__(self) -> None:
        if self.count is not None and self.count < 0:
            raise BadOption(f"count must not be negative (got {self.count})")
        if self.seed is not None and self.seed < 0:
            raise BadOption(f"seed must not be negative (got {self.seed})")
        len(self.entries)  # what is lacking is to be known at once

    @abstractmethod
    def read(self) -> list[Record]:
        """All entries in their order, without count and seed.

        Raises:
            BadInput: a file is lacking, or cannot be read.

        """

    @property
    def root(self) -> Path:
        """The folder as a path."""
        return Path(self.folder).expanduser()

    @cached_property
    def entries(self) -> list[Record]:
        """The entries of its pairs."""
        if not self.root.is_dir():
            raise self.lacking("it" if not self.root.exists() else "a folder of that name")
        entries = self.expanded(self.read())
        if not entries:
            raise self.lacking("pairs: there is none")
        for entry in entries:
            _check_captions(entry)
        if self.count is not None and self.count > len(entries):
            raise BadOption(f"count must lie in 0..{len(entries)} for this data set (got {self.count})")
        return shuffled(entries, self.seed)[: self.count]

    def content(self, item: int) -> str:
        """By the bytes of the image's file, which need not be decoded."""
        entry = self.entries[item]
        try:
            digest = short_digest(entry.image)
        except OSError as error:
            digest = str(error.strerror or error)
        return repr((digest, entry.captions, entry.marks, entry.names, entry.size))

    def expanded(self, entries: list[Record]) -> list[Record]:
        """An entry for each pair."""
        return entries

    def lacking(self, what: str) -> BadInput:
        """The error that says what is not there, what is expected, and where it can be had."""
        return BadInput(
            f"{self.title} cannot be read from {str(self.folder)!r}, which lacks {what}. Expected there: "
            f"{self.layout}. Where to get it: {self.home}"
        )

    def inside(self, *names: str, what: str = "") -> Path:
        """The first of these files or folders that is there.

        Raises:
            BadInput: none is.

        """
        for name in names:
            if (self.root / name).exists():
                return self.root / name
        raise self.lacking(what or " or ".join(names))

    def the_table(self, given: str | None, *patterns: str) -> Path:
        """The table of that name in the folder or, where no name is given, the only file of the first pattern that
        any file has.

        Raises:
            BadInput: there is none, or there are several.

        """
        if given is not None:
            return self.inside(given)
        for pattern in patterns:
            found = sorted(file.name for file in self.root.glob(pattern) if file.is_file())
            if len(found) > 1:
                raise BadInput(f"{str(self.folder)!r} holds several tables ({', '.join(found)}): choose by table=")
            if found:
                return self.root / found[0]
        raise self.lacking(f"a table ({' or '.join(patterns)})")

    def images_of(self, names: Iterable[str]) -> Path:
        """Where the files of a table are: in the folder, or in its ``images``, whichever has the first of them."""
        first = next(iter(names), "")
        images = self.root / "images"
        return self.root if (self.root / first).is_file() or not images.is_dir() else images

    def __len__(self) -> int:
        return len(self.entries)

    def __getitem__(self, item: int) -> Pair:
        """One pair; its image is read now.

        Raises:
            IndexError: there is no such pair.
            BadInput: its image is missing or broken, or its boxes do not fit it.

        """
        if not 0 <= item < len(self):
            raise IndexError(f"item must lie in 0..{len(self) - 1} (got {item})")
        entry = self.entries[item]
        image = self.load_image(entry)
        caption = self.chosen(entry, image)
        if not entry.marks:
            return Pair(image, caption)
        if _turned(entry.image):
            told = "boxes were left out: the file says that its image is to be turned, and they were made before"
            return Pair(image, caption, notes=(told,))
        return Pair(image, caption, self._objects(entry, caption, image.size))

    def load_image(self, entry: Record) -> ImageInput:
        """The image of an entry.

        Raises:
            BadInput: it is missing or broken.

        """
        try:
            return read_image(entry.image)
        except BadInput as error:
            raise BadInput(f"{entry.where}: {error}") from error

    def chosen(self, entry: Record, image: ImageInput) -> str:
        """The caption of an entry."""
        return entry.captions[0]

    def mask(self, mark: ObjectAnnotation, size: tuple[int, int], where: str) -> np.ndarray | None:
        """The mask of an object, (height, width) and true on it, or None."""
        return None

    def missing(self) -> str:
        absent = [entry for entry in self.entries if not entry.image.is_file()]
        if not absent:
            return ""
        return str(
            self.lacking(f"{len(absent):,} of {len(self):,} images, first {absent[0].image} ({absent[0].where})")
        )

    def _objects(self, entry: Record, caption: str, size: tuple[int, int]) -> tuple[Object, ...]:
        if entry.size is not None and entry.size != size:
            made, got = (" x ".join(map(str, sides)) for sides in (entry.size, size))
            raise BadInput(
                f"{entry.where}: the boxes are of an image of {made} pixels, and {entry.image} has "
                f"{got}: take the images as they were published"
            )
        found = named_spans(caption, entry.names or {mark.name for mark in entry.marks if mark.spans is None})
        return tuple(
            Object(
                mark.name,
                whole_box(mark.box, size, f"{entry.where}, {entry.image.name}"),
                self.mask(mark, size, entry.where),
                mark.spans if mark.spans is not None else found.get(mark.name, ()),
            )
            for mark in entry.marks
        )


def shuffled(entries: list[_Any], seed: int | None) -> list[_Any]:
    """The entries in an order that depends on the seed and on how many they are; as they are without one.

    It is drawn from hashes, since what a library's generator gives may change with its version.
    """
    if seed is None:
        return entries
    order = sorted(range(len(entries)), key=lambda place: sha256(f"{seed}:{place}".encode()).digest())
    return [entries[place] for place in order]


def whole_box(box: Edges, size: tuple[int, int], where: str) -> Box:
    """A box in whole pixels: each edge goes to the nearest, and at least one pixel is left.

    An edge may lie up to one pixel outside of the image, as in published files, and is drawn in.

    Raises:
        BadInput: the box is further outside, has a negative side, or holds what is no finite number.

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


def in_order(files: Iterable[Path]) -> list[Path]:
    """Files by their names, numbers in order: a folder lists them in no order that holds elsewhere."""
    return sorted(files, key=lambda file: natural(file.name))


def _check_captions(entry: Record) -> None:
    for caption in entry.captions:
        try:
            read_caption(caption)
        except BadInput as error:
            raise BadInput(f"{entry.where}: {error}") from error


def _turned(path: Path) -> bool:
    with Image.open(path) as image:
        return image.getexif().get(_ORIENTATION, 1) not in (0, 1)
