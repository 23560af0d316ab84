"""One worker: from chunks of rows to the bytes of their files. A chunk's bytes depend on the chunk and on what is
asked alone, never on what came before it, so that any worker at any time gives the same.
"""

import gc
from collections import deque
from collections.abc import Hashable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, TypeAlias

import torch
from PIL import Image

from nibt.data.images import ImageInput
from nibt.data.pair import Pair
from nibt.engine.answering import answered
from nibt.engine.batches import PreparedBatch, group
from nibt.engine.spec import Contrast, ExplanationSpec, resolve
from nibt.errors import NibtError, Unsupported
from nibt.jobs.chunks import Chunk, ahead
from nibt.jobs.rows import encoded, failed_row, row_of
from nibt.jobs.sources.base import Place, RawRow, Source
from nibt.models._loading import load_model
from nibt.models.base import Model
from nibt.results.explanation import Explanation

_HOPELESS = 8
_AHEAD = 2  # batches that are decoded and tokenised while one is explained
Answered: TypeAlias = tuple[RawRow, Explanation | str]


@dataclass(frozen=True)
class JobSpec:
    """What is asked of every pair, as plain data that can be sent to another process."""

    model: Any
    method: str = "nib"
    target: str = "cosine"
    variant: str = "default"
    against: Any = ()
    against_images: Any = ()
    templates: Any = ()
    batch_size: int = 8
    seed: int | None = None
    loading: Mapping[str, Any] = field(default_factory=dict)
    options: Mapping[str, Any] = field(default_factory=dict)

    def question(self) -> ExplanationSpec:
        """The same of a loaded model, with all that was left open."""
        model = self.model if isinstance(self.model, Model) else load_model(self.model, **self.loading)
        contrast = Contrast.read(self.against, self.against_images, self.templates)
        return resolve(model, self.method, self.target, self.variant, contrast, None, self.seed, dict(self.options))


@dataclass(frozen=True)
class Shard:
    """The file of a chunk: its bytes, how many rows it has, how many of them have no answer, and the smallest compute
    batch that memory made necessary (None: the one that was asked for).
    """

    number: int
    data: bytes
    rows: int
    errors: int
    halved: int | None = None


@dataclass(frozen=True)
class FailedRow:
    """A row that cannot be explained."""

    raw: RawRow
    error: str


@dataclass(frozen=True)
class PreparedRows:
    """Rows that go together, their inputs made."""

    raws: list[RawRow]
    ready: PreparedBatch


@dataclass(frozen=True)
class PlaceholderImage(ImageInput):
    """A picture whose pixels have been let go, since its inputs are made."""

    shape: tuple[int, int] = (0, 0)

    @property
    def size(self) -> tuple[int, int]:
        return self.shape


class Worker:
    """Holds a model, and explains chunk after chunk."""

    def __init__(self, asked: JobSpec, source: Source) -> None:
        self.source, self.size, self.question = source, asked.batch_size, asked.question()
        self._failed: int | None = 0  # how many pairs failed to be explained before the first that did not

    def told(self) -> dict[str, Any]:
        """What holds for all rows: the question with all that was left open, the model, the versions."""
        question = self.question
        targets = {side: type(question.targets[side]).__name__.lower() for side in question.targets}
        told = {**question.record, "targets": targets, **question.facts, "batch_size": self.size}
        return {**told, "warnings": list(question.warnings)}

    def shards(self, chunks: Iterable[Chunk]) -> Iterator[Shard]:
        """The file of each chunk; while one batch is explained, the next ones are made ready."""
        rows: list[dict[str, Any]] = []
        limit = self.size
        for one in ahead(self._readied(chunks), _AHEAD):
            if isinstance(one, Chunk):
                yield self._shard(one, rows, limit)
                rows, limit = [], self.size
            elif isinstance(one, FailedRow):
                rows.append(failed_row(one.raw, one.error, self.source.digest(one.raw)))
            else:
                found, limit = self._explained(one, limit)
                rows += [self._row(raw, told) for raw, told in found]

    def _row(self, raw: RawRow, outcome: Explanation | str) -> dict[str, Any]:
        if isinstance(outcome, str):
            return failed_row(raw, outcome, self.source.digest(raw))
        return row_of(raw, outcome)

    def _shard(self, chunk: Chunk, rows: list[dict[str, Any]], limit: int) -> Shard:
        rows = sorted(rows, key=lambda row: row["row"])
        halved = None if limit == self.size else limit
        data = encoded(rows, {**self.told(), "chunk": chunk.number, "halved": halved})
        return Shard(chunk.number, data, len(rows), sum(row["error"] is not None for row in rows), halved)

    # What is done ahead, in a thread

    def _readied(self, chunks: Iterable[Chunk]) -> "Iterator[PreparedRows | FailedRow | Chunk]":
        """Batches as they fill, by group; a chunk follows all of its own."""
        for chunk in chunks:
            waiting: dict[Hashable, list[tuple[RawRow, Pair]]] = {}
            pictures: dict[Place, ImageInput] = {}  # one that comes again, in this chunk, is read and traced once
            for raw in chunk.raws:
                try:
                    pair = self.source.read(raw, pictures)
                    key = group(self.question, pair)
                except Exception as error:  # a row costs no other, whatever is wrong with it
                    yield FailedRow(raw, _told(error))
                    continue
                waiting.setdefault(key, []).append((raw, pair))
                if len(waiting[key]) == self.size:
                    pictures.clear()
                    yield from self._batch(waiting.pop(key))
            for pairs in waiting.values():
                yield from self._batch(pairs)
            yield Chunk(chunk.number, [])

    def _batch(self, pairs: list[tuple[RawRow, Pair]]) -> "Iterator[PreparedRows | FailedRow]":
        """The batch of these; those whose inputs cannot be made are left out of it."""
        good, ready = pairs, None
        try:
            ready = PreparedBatch.of(self.question, [pair for _, pair in pairs])
        except Exception:
            good = []
            for raw, pair in pairs:
                try:
                    PreparedBatch.of(self.question, [pair])
                    good.append((raw, pair))
                except Exception as error:
                    yield FailedRow(raw, _told(error))
        if good:
            ready = ready or PreparedBatch.of(self.question, [pair for _, pair in good])
            yield PreparedRows([raw for raw, _ in good], replace(ready, pairs=[drop_pixels(pair) for _, pair in good]))

    # What takes the time

    def _explained(self, batch: PreparedRows, limit: int) -> tuple[list[Answered], int]:
        """The answer of each row, or why there is none; and how many rows go together from now on in this chunk."""
        found: list[Answered] = []
        left = deque([list(range(len(batch.raws)))])
        while left:
            part = left.popleft()
            if len(part) > limit:
                left.extendleft(reversed([part[first : first + limit] for first in range(0, len(part), limit)]))
                continue
            error = self._tried(batch, part, found)
            if error is None:
                continue
            if len(part) > 1 and _out_of_memory(error):
                limit = len(part) // 2
                _free()
                left.appendleft(part)
            elif len(part) > 1:
                left.extendleft([index] for index in reversed(part))
            else:
                found.append((batch.raws[part[0]], self._failure(error)))
        return found, limit

    def _tried(self, batch: PreparedRows, part: list[int], found: list[Answered]) -> Exception | None:
        """Explain a part of a batch; the error is given without its traceback, which would hold the memory."""
        ready = batch.ready if len(part) == len(batch.raws) else batch.ready.take(part)
        try:
            answers = [answer for answer in answered(self.question, ready) if isinstance(answer, Explanation)]
        except Exception as error:  # whatever a pair brings about is its own failure, not the job's
            return error.with_traceback(None)
        self._failed = None
        found.extend(zip((batch.raws[index] for index in part), answers, strict=True))
        return None

    def _failure(self, error: Exception) -> str:
        """What is written down of a row; raised where nothing but failures came, since then it is not the row's."""
        if isinstance(error, NibtError) and not isinstance(error, Unsupported):
            return str(error)
        if self._failed is not None:
            self._failed += 1
            if self._failed == _HOPELESS:
                raise error
        if _out_of_memory(error):
            return "even alone it does not fit into memory: take fewer steps, or a smaller image_size or dtype"
        return _told(error)


def drop_pixels(pair: Pair) -> Pair:
    picture = pair.picture
    return replace(
        pair,
        picture=PlaceholderImage(Image.new("L", (1, 1)), picture.source, picture.notes, picture.digest, picture.size),
    )


def _told(error: Exception) -> str:
    return str(error) if isinstance(error, NibtError) else f"unexpected {type(error).__name__}: {error}"


def _out_of_memory(error: Exception) -> bool:
    return isinstance(error, torch.OutOfMemoryError | MemoryError) or "can't allocate memory" in str(error)


def _free() -> None:
    gc.collect()
    if torch.cuda.is_initialized():
        torch.cuda.empty_cache()
