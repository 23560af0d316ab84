"""What workers get: the request of a job and chunks of rows, read ahead; shards of the chunks.

Here is also what stands for images without pixels.
"""

import re
from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any, TypeVar

from PIL import Image

from nibt.data.images import ImageInput, ImageSource
from nibt.data.pair import Texts
from nibt.datasets.base import Dataset, Record, Wanted
from nibt.errors import BadOption
from nibt.options import Keywords
from nibt.registry import MethodSpec

_Item = TypeVar("_Item")
_END = object()
_MOST_SHARDS = 100_000


@dataclass(frozen=True)
class JobSpec:
    """The request of a job, as plain data that can be sent to another process."""

    model: Any
    method: MethodSpec
    target: str | None
    against: Texts
    against_images: ImageSource | Sequence[ImageSource]
    templates: Sequence[str]
    batch_size: int
    seed: int | None
    loading: Keywords


@dataclass(frozen=True)
class Chunk:
    """Consecutive records from ``number * size`` on, whose results are written together."""

    number: int
    records: list[Record]


@dataclass
class Chunks:
    """The chunks of a data set that are wanted; ``count`` is the number of all records after the iteration."""

    data: Dataset
    size: int
    wanted: Wanted
    count: int | None = field(default=None, init=False)

    def __iter__(self) -> Iterator[Chunk]:
        row = 0
        records = []
        for record in self.data.records(lambda row: self.wanted(row // self.size)):
            if record is not None:
                records.append(record)
            row += 1
            if row % self.size == 0 and records:
                yield Chunk(records[0].row // self.size, records)
                records = []

        self.count = row
        if records:
            yield Chunk(records[0].row // self.size, records)


@dataclass(frozen=True)
class Shard:
    """One of several equal shares of the chunks of a job.

    Attributes:
        number: The number of the shard, from 1.
        count: The number of shards.
    """

    number: int
    count: int

    @classmethod
    def parse(cls, text: str) -> "Shard":
        """Read a shard such as ``3/16``.

        Raises:
            BadOption: It is no such text.
        """
        match = re.fullmatch(r"(\d+)/(\d+)", text) if isinstance(text, str) else None
        number, count = map(int, match.groups()) if match else (0, 0)
        if not 1 <= number <= count <= _MOST_SHARDS:
            raise BadOption(
                f"shard must be a number and their count, such as 3/16, with numbers from 1 on (got {text!r:.60})"
            )
        return cls(number, count)

    def has(self, chunk: int) -> bool:
        """Return whether a chunk belongs to the shard. Neighbors belong to different ones, so that all end alike."""
        return chunk % self.count == self.number - 1

    def chunks(self, count: int) -> range:
        """Return which of so many chunks belong to the shard."""
        return range(self.number - 1, count, self.count)


def read_ahead(items: Iterator[_Item], count: int) -> Iterator[_Item]:
    """Yield the items in their order, while a thread produces the next ``count`` of them."""
    with ThreadPoolExecutor(1, "nibt-ahead") as thread:
        try:
            waiting = deque(thread.submit(next, items, _END) for _ in range(count))
            while (item := waiting.popleft().result()) is not _END:
                waiting.append(thread.submit(next, items, _END))
                yield item  # pyright: ignore[reportReturnType]
        finally:
            thread.shutdown(wait=True, cancel_futures=True)


@dataclass(frozen=True)
class PlaceholderImage(ImageInput):
    """An image without pixels, which saves memory once the inputs of the model are prepared."""

    shape: tuple[int, int] = (0, 0)

    @classmethod
    def of(cls, image: ImageInput) -> "PlaceholderImage":
        """Return an image without its pixels."""
        return cls(Image.new("L", (1, 1)), image.source, image.notes, image.digest, image.size)

    @property
    def size(self) -> tuple[int, int]:
        return self.shape
