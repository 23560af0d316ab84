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
from nibt.datasets.base import Dataset, ImageLocation, Record
from nibt.engine.answers import to_answers
from nibt.engine.batches import PreparedBatch, batch_group, explain_batch
from nibt.engine.spec import ExplanationSpec, resolve
from nibt.engine.targets import Contrast
from nibt.errors import NibtError, Unsupported
from nibt.jobs.chunks import Chunk, ahead
from nibt.jobs.rows import encoded, failed_row, row_of
from nibt.methods.base import MethodSpec
from nibt.models._loading import load_model
from nibt.models.base import Model
from nibt.results.explanation import Explanation

_HOPELESS = 8
_AHEAD = 2  # batches that are decoded and tokenised while one is explained
Answered: TypeAlias = tuple[Record, Explanation | str]


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

    def resolve(self) -> ExplanationSpec:
        """Load the model, and resolve all that is left open."""
        model = self.model if isinstance(self.model, Model) else load_model(self.model, **self.loading)
        contrast = Contrast.of(self.against, self.against_images, self.templates)
        return resolve(
            model, MethodSpec(self.method, self.variant, self.options), self.target, contrast, seed=self.seed
        )


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

    record: Record
    error: str


@dataclass(frozen=True)
class PreparedRows:
    """Rows that go together, their inputs made."""

    records: list[Record]
    ready: PreparedBatch


@dataclass(frozen=True)
class PlaceholderImage(ImageInput):
    """An image whose pixels have been let go, since its inputs are made."""

    shape: tuple[int, int] = (0, 0)

    @property
    def size(self) -> tuple[int, int]:
        return self.shape


class Worker:
    """Holds a model, and explains chunk after chunk."""

    def __init__(self, asked: JobSpec, source: Dataset) -> None:
        self.source, self.size, self.spec = source, asked.batch_size, asked.resolve()
        self._failed: int | None = 0  # how many pairs failed to be explained before the first that did not

    def told(self) -> dict[str, Any]:
        """What holds for all rows: the question with all that was left open, the model, the versions."""
        spec = self.spec
        targets = {side: target.name for side, target in spec.targets.items()}
        record = {**spec.record, "targets": targets, **spec.provenance, "batch_size": self.size}
        return {**record, "warnings": list(spec.warnings)}

    def shards(self, chunks: Iterable[Chunk]) -> Iterator[Shard]:
        """The file of each chunk; while one batch is explained, the next ones are made ready."""
        rows: list[dict[str, Any]] = []
        limit = self.size
        for one in ahead(self._readied(chunks), _AHEAD):
            if isinstance(one, Chunk):
                yield self._shard(one, rows, limit)
                rows, limit = [], self.size
            elif isinstance(one, FailedRow):
                rows.append(failed_row(one.record, one.error, one.record.digest()))
            else:
                found, limit = self._explained(one, limit)
                rows += [self._row(record, told) for record, told in found]

    def _row(self, record: Record, outcome: Explanation | str) -> dict[str, Any]:
        if isinstance(outcome, str):
            return failed_row(record, outcome, record.digest())
        return row_of(record, outcome)

    def _shard(self, chunk: Chunk, rows: list[dict[str, Any]], limit: int) -> Shard:
        rows = sorted(rows, key=lambda row: row["row"])
        halved = None if limit == self.size else limit
        data = encoded(rows, {**self.told(), "chunk": chunk.number, "halved": halved})
        return Shard(chunk.number, data, len(rows), sum(row["error"] is not None for row in rows), halved)

    # What is done ahead, in a thread

    def _readied(self, chunks: Iterable[Chunk]) -> "Iterator[PreparedRows | FailedRow | Chunk]":
        """Batches as they fill, by group; a chunk follows all of its own."""
        for chunk in chunks:
            waiting: dict[Hashable, list[tuple[Record, Pair]]] = {}
            images: dict[ImageLocation, ImageInput] = {}  # one that comes again, in this chunk, is read and traced once
            for record in chunk.records:
                try:
                    pair = self.source.read(record, images)
                    key = batch_group(self.spec, pair)
                except Exception as error:  # a row costs no other, whatever is wrong with it
                    yield FailedRow(record, _told(error))
                    continue
                waiting.setdefault(key, []).append((record, pair))
                if len(waiting[key]) == self.size:
                    images.clear()
                    yield from self._batch(waiting.pop(key))
            for pairs in waiting.values():
                yield from self._batch(pairs)
            yield Chunk(chunk.number, [])

    def _batch(self, pairs: list[tuple[Record, Pair]]) -> "Iterator[PreparedRows | FailedRow]":
        """The batch of these; those whose inputs cannot be made are left out of it."""
        good, ready = pairs, None
        try:
            ready = PreparedBatch.of(self.spec, [pair for _, pair in pairs])
        except Exception:
            good = []
            for record, pair in pairs:
                try:
                    PreparedBatch.of(self.spec, [pair])
                    good.append((record, pair))
                except Exception as error:
                    yield FailedRow(record, _told(error))
        if good:
            ready = ready or PreparedBatch.of(self.spec, [pair for _, pair in good])
            yield PreparedRows(
                [record for record, _ in good], replace(ready, pairs=[drop_pixels(pair) for _, pair in good])
            )

    # What takes the time

    def _explained(self, batch: PreparedRows, limit: int) -> tuple[list[Answered], int]:
        """The answer of each row, or why there is none; and how many rows go together from now on in this chunk."""
        found: list[Answered] = []
        left = deque([list(range(len(batch.records)))])
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
                found.append((batch.records[part[0]], self._failure(error)))
        return found, limit

    def _tried(self, batch: PreparedRows, part: list[int], found: list[Answered]) -> Exception | None:
        """Explain a part of a batch; the error is given without its traceback, which would hold the memory."""
        ready = batch.ready if len(part) == len(batch.records) else batch.ready.take(part)
        try:
            answers = to_answers(self.spec, explain_batch(self.spec, ready))
        except Exception as error:  # whatever a pair brings about is its own failure, not the job's
            return error.with_traceback(None)
        self._failed = None
        explanations = [answer for answer in answers if isinstance(answer, Explanation)]
        found.extend(zip((batch.records[index] for index in part), explanations, strict=True))
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
    image = pair.image
    return replace(
        pair,
        image=PlaceholderImage(Image.new("L", (1, 1)), image.source, image.notes, image.digest, image.size),
    )


def _told(error: Exception) -> str:
    return str(error) if isinstance(error, NibtError) else f"unexpected {type(error).__name__}: {error}"


def _out_of_memory(error: Exception) -> bool:
    return isinstance(error, torch.OutOfMemoryError | MemoryError) or "can't allocate memory" in str(error)


def _free() -> None:
    gc.collect()
    if torch.cuda.is_initialized():
        torch.cuda.empty_cache()
