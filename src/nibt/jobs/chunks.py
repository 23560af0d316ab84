"""The rows of a source in chunks, which are cut by row number alone; and the next things made in a thread."""

from collections import deque
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import TypeVar

from nibt.datasets.base import Dataset, Record, Wanted

_Thing = TypeVar("_Thing")
_END = object()


@dataclass(frozen=True)
class Chunk:
    """The rows ``number * size`` to that plus ``size``, or what is left of them at the end."""

    number: int
    records: list[Record]


@dataclass
class Chunks:
    """The chunks that are ``wanted``; once they are through, ``count`` is how many rows the source has."""

    source: Dataset
    size: int
    wanted: Wanted
    count: int | None = field(default=None, init=False)

    def __iter__(self) -> Iterator[Chunk]:
        row, records = 0, []
        for record in self.source.records(lambda row: self.wanted(row // self.size)):
            if record is not None:
                records.append(record)
            row += 1
            if row % self.size == 0 and records:
                yield Chunk(records[0].row // self.size, records)
                records = []
        self.count = row
        if records:
            yield Chunk(records[0].row // self.size, records)


def ahead(things: Iterator[_Thing], count: int) -> Iterator[_Thing]:
    """The same things in the same order; so many of the next ones are made meanwhile, in one thread."""
    with ThreadPoolExecutor(1, "nibt-ahead") as thread:
        try:
            waiting = deque(thread.submit(next, things, _END) for _ in range(count))
            while (thing := waiting.popleft().result()) is not _END:
                waiting.append(thread.submit(next, things, _END))
                yield thing  # pyright: ignore[reportReturnType]
        finally:
            thread.shutdown(wait=True, cancel_futures=True)
