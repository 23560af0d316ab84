"""The rows of a source in chunks, which are cut by row number alone; and the next things made in a thread."""

from collections import deque
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import TypeVar

from nibt.jobs.sources.base import RawRow, Source, Wanted

_Thing = TypeVar("_Thing")
_END = object()


@dataclass(frozen=True)
class Chunk:
    """The rows ``number * size`` to that plus ``size``, or what is left of them at the end."""

    number: int
    raws: list[RawRow]


@dataclass
class Chunks:
    """The chunks that are ``wanted``; once they are through, ``count`` is how many rows the source has."""

    source: Source
    size: int
    wanted: Wanted
    count: int | None = field(default=None, init=False)

    def __iter__(self) -> Iterator[Chunk]:
        row, raws = 0, []
        for raw in self.source.rows(lambda row: self.wanted(row // self.size)):
            if raw is not None:
                raws.append(raw)
            row += 1
            if row % self.size == 0 and raws:
                yield Chunk(raws[0].row // self.size, raws)
                raws = []
        self.count = row
        if raws:
            yield Chunk(raws[0].row // self.size, raws)


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
