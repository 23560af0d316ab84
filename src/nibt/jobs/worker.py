"""Workers, which explain chunks of records and return the bytes of their files.

The bytes depend only on the chunk and the request, not on the worker or on earlier chunks.
"""

from collections import deque
from collections.abc import Hashable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, TypeAlias

from PIL import Image

from nibt.data.images import ImageInput
from nibt.data.pair import Pair
from nibt.datasets.base import Dataset, ImageLocation, Record
from nibt.engine.answers import to_answers
from nibt.engine.batches import PreparedBatch, batch_group, batch_order, explain_batch
from nibt.engine.memory import halve
from nibt.engine.spec import ExplanationSpec, resolve
from nibt.engine.targets import Contrast
from nibt.errors import NibtError, Unsupported
from nibt.jobs.chunks import Chunk, read_ahead
from nibt.jobs.manifest import JobRequest
from nibt.jobs.rows import encode_rows, explained_row, failed_row
from nibt.methods.base import MethodSpec
from nibt.models._devices import is_out_of_memory
from nibt.models._loading import load_model
from nibt.models.base import Model
from nibt.results.explanation import Explanation

_MAX_FAILURES = 8  # of unexpected errors before the first success, before the job fails
_AHEAD = 2  # batches that are prepared while one is explained
Outcome: TypeAlias = tuple[Record, Explanation | str]
"""A record with its explanation, or with the message of its error."""


@dataclass(frozen=True)
class JobSpec:
    """The request of a job, as plain data that can be sent to another process."""

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
        """Load the model, and resolve the defaults of the request."""
        loaded = self.model if isinstance(self.model, Model) else load_model(self.model, **self.loading)
        model = loaded.renewed(anew=True)
        contrast = Contrast.of(self.against, self.against_images, self.templates)
        return resolve(
            model, MethodSpec.of(self.method, self.variant, self.options), self.target, contrast, seed=self.seed
        )


@dataclass(frozen=True)
class ChunkFile:
    """The file of a chunk.

    Attributes:
        number: The number of the chunk.
        data: The bytes of the file.
        rows: The number of rows.
        errors: The number of rows that failed.
        halved: The smaller batch size that was used because memory ran out; None if memory sufficed.

    """

    number: int
    data: bytes
    rows: int
    errors: int
    halved: int | None = None


@dataclass(frozen=True)
class FailedRow:
    """A record that cannot be explained, with the message of its error."""

    record: Record
    error: str


@dataclass(frozen=True)
class PreparedRows:
    """Records that are explained in one batch, with their inputs."""

    records: list[Record]
    batch: PreparedBatch


@dataclass(frozen=True)
class PlaceholderImage(ImageInput):
    """An image without pixels, which saves memory once the inputs of the model are prepared."""

    shape: tuple[int, int] = (0, 0)

    @property
    def size(self) -> tuple[int, int]:
        """Width and height of the image, in pixels."""
        return self.shape


class Worker:
    """A worker with a loaded model, which explains chunks."""

    def __init__(self, request: JobSpec, data: Dataset) -> None:
        self.data, self.size, self.spec = data, request.batch_size, request.resolve()
        self._failures: int | None = 0  # before the first success; None after it

    def describe(self) -> JobRequest:
        """Return the resolved request, the model and the versions, which all rows share."""
        spec = self.spec
        targets = {side: score.target.name for side, score in spec.scores.items()}
        return {
            **spec.record,
            **spec.provenance,
            "targets": targets,
            "batch_size": self.size,
            "warnings": list(spec.warnings),
        }

    def explain_chunks(self, chunks: Iterable[Chunk]) -> Iterator[ChunkFile]:
        """Yield the file of each chunk. The next batches are prepared while one is explained."""
        rows: list[dict[str, Any]] = []
        limit = self.size
        for item in read_ahead(self._prepare(chunks), _AHEAD):
            if isinstance(item, Chunk):
                yield self._file(item, rows, limit)
                rows, limit = [], self.size
            elif isinstance(item, FailedRow):
                rows.append(failed_row(item.record, item.error, item.record.digest()))
            else:
                outcomes, limit = self._explain(item, limit)
                rows += [self._row(record, outcome) for record, outcome in outcomes]

    def _row(self, record: Record, outcome: Explanation | str) -> dict[str, Any]:
        if isinstance(outcome, str):
            return failed_row(record, outcome, record.digest())
        return explained_row(record, outcome)

    def _file(self, chunk: Chunk, rows: list[dict[str, Any]], limit: int) -> ChunkFile:
        rows = sorted(rows, key=lambda row: row["row"])
        halved = None if limit == self.size else limit
        data = encode_rows(rows, {**self.describe(), "chunk": chunk.number, "halved": halved})
        return ChunkFile(chunk.number, data, len(rows), sum(row["error"] is not None for row in rows), halved)

    # Preparation, in a thread

    def _prepare(self, chunks: Iterable[Chunk]) -> "Iterator[PreparedRows | FailedRow | Chunk]":
        """Yield the batches and failed rows of each chunk, followed by the chunk without its records.

        A batch has pairs of the same group. It is yielded as soon as it is full. Records are taken by the length of
        their captions, so that batches have little padding; those of one image stay together.
        """
        for chunk in chunks:
            waiting: dict[Hashable, list[tuple[Record, Pair]]] = {}
            images: dict[ImageLocation, ImageInput] = {}  # the image of several rows is read once
            for record in self._by_length(chunk.records):
                try:
                    pair = self.data.read(record, images)
                    key = batch_group(self.spec, pair)
                except Exception as error:  # the error of a row is recorded in it
                    yield FailedRow(record, _message(error))
                    continue
                waiting.setdefault(key, []).append((record, pair))
                if len(waiting[key]) == self.size:
                    images.clear()
                    yield from self._batch(waiting.pop(key))
            for pairs in waiting.values():
                yield from self._batch(pairs)
            yield Chunk(chunk.number, [])

    def _by_length(self, records: list[Record]) -> list[Record]:
        """Sort the records of a chunk as ``explain`` sorts its pairs, so that the batches are the same."""
        if len(records) <= self.size:
            return records
        keys = [one.image if isinstance(one.image, str) else number for number, one in enumerate(records)]
        return [records[number] for number in batch_order(keys, [self._length(one) for one in records])]

    def _length(self, record: Record) -> int:
        """Return the length of the first caption; 0 if it has no tokens, which is an error once it is read."""
        try:
            return self.spec.model.text.length(record.caption or "")
        except Exception:
            return 0

    def _batch(self, pairs: list[tuple[Record, Pair]]) -> "Iterator[PreparedRows | FailedRow]":
        """Yield a failed row for each pair whose inputs cannot be prepared, and the batch of the other pairs."""
        good, batch = pairs, None
        try:
            batch = PreparedBatch.of(self.spec, [pair for _, pair in pairs])
        except Exception:
            good = []
            for record, pair in pairs:
                try:
                    PreparedBatch.of(self.spec, [pair])
                    good.append((record, pair))
                except Exception as error:
                    yield FailedRow(record, _message(error))
        if good:
            batch = batch or PreparedBatch.of(self.spec, [pair for _, pair in good])
            small = replace(batch, pairs=[drop_pixels(pair) for _, pair in good])
            yield PreparedRows([record for record, _ in good], small)

    # Explanation

    def _explain(self, rows: PreparedRows, limit: int) -> tuple[list[Outcome], int]:
        """Return the outcome of each record, and the batch size for the rest of the chunk.

        If memory runs out, the batch size is halved. If another error occurs, each pair is explained alone.
        """
        outcomes: list[Outcome] = []
        left = deque([list(range(len(rows.records)))])
        while left:
            part = left.popleft()
            if len(part) > limit:
                left.extendleft(reversed([part[first : first + limit] for first in range(0, len(part), limit)]))
                continue
            error = self._try(rows, part, outcomes)
            if error is None:
                continue
            if len(part) > 1 and is_out_of_memory(error):
                limit = halve(len(part))
                left.appendleft(part)
            elif len(part) > 1:
                left.extendleft([index] for index in reversed(part))
            else:
                outcomes.append((rows.records[part[0]], self._failure(error)))
        return outcomes, limit

    def _try(self, rows: PreparedRows, part: list[int], outcomes: list[Outcome]) -> Exception | None:
        """Explain a part of a batch."""
        batch = rows.batch if len(part) == len(rows.records) else rows.batch.take(part)
        try:
            answers = to_answers(self.spec, explain_batch(self.spec, batch))
        except Exception as error:  # the error of a pair does not end the job
            return error.with_traceback(None)
        self._failures = None
        explanations = [answer for answer in answers if isinstance(answer, Explanation)]
        outcomes.extend(zip((rows.records[index] for index in part), explanations, strict=True))
        return None

    def _failure(self, error: Exception) -> str:
        """Return the message of a failed row, or raise the error if all rows so far failed unexpectedly."""
        if isinstance(error, NibtError) and not isinstance(error, Unsupported):
            return str(error)
        if self._failures is not None:
            self._failures += 1
            if self._failures == _MAX_FAILURES:
                raise error
        if is_out_of_memory(error):
            return "the pair does not fit into memory even alone: choose fewer steps, or a smaller image_size or dtype"
        return _message(error)


def drop_pixels(pair: Pair) -> Pair:
    """Return a pair whose image has no pixels."""
    image = pair.image
    return replace(
        pair,
        image=PlaceholderImage(Image.new("L", (1, 1)), image.source, image.notes, image.digest, image.size),
    )


def _message(error: Exception) -> str:
    return str(error) if isinstance(error, NibtError) else f"unexpected {type(error).__name__}: {error}"
