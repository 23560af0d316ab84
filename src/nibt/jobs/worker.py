"""Workers, which explain chunks of pairs or of a generator's prompts, and return the bytes of their files.

The bytes depend only on the chunk and the request, not on the worker or on earlier chunks.
"""

from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Hashable, Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Any, ClassVar

from PIL import Image

from nibt.data.images import ImageInput
from nibt.data.pair import Pair, as_list
from nibt.datasets.base import Dataset, ImageLocation, Record
from nibt.engine.batches import PreparedBatch, batch_group, batch_order, explain_batch, parts_of_batch
from nibt.engine.encode import TOO_LARGE, halve, is_out_of_memory
from nibt.engine.explain import explain
from nibt.engine.explanations import to_explanations
from nibt.engine.spec import Request, resolve
from nibt.engine.targets import Contrast
from nibt.errors import BadInput, BadOption, NibtError, RequestRefused, ServerFailed, Unsupported
from nibt.folder import ChunkFile
from nibt.jobs._chunks import Chunk, JobSpec, PlaceholderImage, read_ahead
from nibt.jobs.rows import encode_rows, explained_row, failed_row, message
from nibt.models._loading import load_model
from nibt.models._request import LoadOptions, check_loading
from nibt.models.base import Model
from nibt.records import JsonObject
from nibt.results.explanation import Explanation

_MAX_FAILURES = 8  # of unexpected errors before the first success, before the job fails
_AHEAD = 2  # batches that are prepared while one is explained


@dataclass(frozen=True)
class PreparedRows:
    """Records that are explained in one batch, with their inputs: a ``PreparedBatch``, or what ``RowWorker`` reads."""

    records: list[Record]
    batch: Any


class Worker:
    """A worker with a loaded model, which explains chunks."""

    of_answers: ClassVar[bool] = False
    fingerprint: JsonObject | None = None
    """What a model behind a server shows for a fixed request; None for models whose weights are hashed."""

    def __init__(self, request: JobSpec, data: Dataset) -> None:
        self.data = data
        self.size = request.batch_size
        self.request = request
        self.load()
        self._failures: int | None = 0  # before the first success; None after it

    def load(self) -> None:
        """Load the model, and resolve the defaults of the request."""
        request = self.request
        contrast = replace(self.contrast(), explained=True)
        check_loading(request.loading, LoadOptions, "tokenizer")
        loaded = request.model if isinstance(request.model, Model) else load_model(request.model, **request.loading)
        asked = Request(request.method, request.target, contrast, seed=request.seed)
        self.spec = resolve(loaded.renewed(anew=True), asked)

    def contrast(self) -> Contrast:
        """Return what the pairs are compared with."""
        return Contrast.of(self.request.against, self.request.against_images, self.request.templates)

    def describe(self) -> JsonObject:
        """Return the resolved request, the model and the versions, which all rows share."""
        spec = self.spec
        return {
            **spec.record,
            **spec.provenance,
            "targets": {side: score.target.name for side, score in spec.scores.items()},
            "batch_size": self.size,
            "warnings": list(spec.warnings),
        }

    def introduce(self) -> JsonObject:
        """Return what all workers of a job must agree on."""
        return {**self.describe(), "fingerprint": self.fingerprint}

    def explain_chunks(self, chunks: Iterable[Chunk]) -> Iterator[ChunkFile]:
        """Yield the file of each chunk. The next batches are prepared while one is explained."""
        rows: list[JsonObject] = []
        limit = self.size
        for item in read_ahead(self._prepare(chunks), _AHEAD):
            if isinstance(item, Chunk):
                shared = {**self.describe(), "chunk": item.number, "halved": limit if limit < self.size else None}
                data = encode_rows(sorted(rows, key=lambda row: row["row"]), shared, self.of_answers)
                yield ChunkFile(f"{item.number:08d}", data, len(rows))
                rows = []
                limit = self.size
            elif isinstance(item, dict):
                rows.append(item)
            else:
                explained, limit = self._explain(item, limit)
                rows += explained

    def _prepare(self, chunks: Iterable[Chunk]) -> Iterator[PreparedRows | JsonObject | Chunk]:
        """Yield the batches and the failed rows of each chunk, as soon as they are full, then the chunk alone."""
        for chunk in chunks:
            waiting: dict[Hashable, list[tuple[Record, Pair]]] = {}
            images: dict[ImageLocation, ImageInput] = {}  # the image of several rows is read once
            for record in self._by_length(chunk.records):
                try:
                    pair = self.data.read(record, images)
                    key = batch_group(self.spec, pair)
                except Exception as error:  # the error of a row is recorded in it
                    yield failed_row(record, message(error))
                    continue
                waiting.setdefault(key, []).append((record, pair))
                if len(waiting[key]) == self.size:
                    images.clear()
                    yield from self._batches(waiting.pop(key))

            for pairs in waiting.values():
                yield from self._batches(pairs)
            yield Chunk(chunk.number, [])

    def _by_length(self, records: list[Record]) -> list[Record]:
        """Sort the records of a chunk as ``explain`` sorts its pairs, so that the batches are the same."""
        if len(records) <= self.size:
            return records

        keys = [record.image if isinstance(record.image, str) else row for row, record in enumerate(records)]
        lengths = [0] * len(records)
        for row, record in enumerate(records):
            with suppress(Exception):  # a caption without tokens is an error once it is read
                lengths[row] = self.spec.model.text.length(record.caption or "")

        return [records[row] for row in batch_order(keys, lengths)]

    def _batches(self, pairs: list[tuple[Record, Pair]]) -> Iterator[PreparedRows | JsonObject]:
        """Yield the batches of pairs that fit together, and failed rows; large images make smaller batches."""
        for part in parts_of_batch(self.spec, [pair for _, pair in pairs]):
            yield from self._batch(pairs[part])

    def _batch(self, pairs: list[tuple[Record, Pair]]) -> Iterator[PreparedRows | JsonObject]:
        """Yield a failed row for each pair whose inputs cannot be prepared, and the batch of the other pairs."""
        good = pairs
        batch = None
        try:
            batch = PreparedBatch.of(self.spec, [pair for _, pair in pairs])
        except Exception:
            good = []
            for record, pair in pairs:
                try:
                    PreparedBatch.of(self.spec, [pair])
                    good.append((record, pair))
                except Exception as error:
                    yield failed_row(record, message(error))

        if good:
            batch = batch or PreparedBatch.of(self.spec, [pair for _, pair in good])
            small = replace(batch, pairs=[replace(pair, image=PlaceholderImage.of(pair.image)) for _, pair in good])
            yield PreparedRows([record for record, _ in good], small)

    def _explain(self, prepared: PreparedRows, limit: int) -> tuple[list[JsonObject], int]:
        """Return the row of each record, and the batch size for the rest of the chunk, halved if memory runs out."""
        rows: list[JsonObject] = []
        left = deque([list(range(len(prepared.records)))])
        while left:
            indices = left.popleft()
            if len(indices) > limit:
                left.extendleft(reversed([indices[first : first + limit] for first in range(0, len(indices), limit)]))
                continue
            try:
                rows += self._rows(prepared, indices)
                self._failures = None
            except Exception as error:  # the error of a pair does not end the job
                if len(indices) > 1 and is_out_of_memory(error):
                    limit = halve(len(indices))
                    left.appendleft(indices)
                elif len(indices) > 1:
                    left.extendleft([index] for index in reversed(indices))
                else:
                    record = prepared.records[indices[0]]
                    rows.append(failed_row(record, self._failure(error)))

        return rows, limit

    def _rows(self, prepared: PreparedRows, indices: list[int]) -> list[JsonObject]:
        """Explain some records of a batch together, and return their rows."""
        batch = prepared.batch if len(indices) == len(prepared.records) else prepared.batch.take(indices)
        explanations = to_explanations(self.spec, explain_batch(self.spec, batch))
        records = [prepared.records[index] for index in indices]
        return [explained_row(record, explanation) for record, explanation in zip(records, explanations, strict=True)]

    def _failure(self, error: Exception) -> str:
        """Return the message of a failed row, or raise the error if all rows so far failed unexpectedly.

        A server that cannot be reached, refuses access or reached its limit ends the job, which can be resumed.
        """
        of_server = isinstance(error, ServerFailed)
        if of_server and not isinstance(error, RequestRefused):
            raise error  # the next row would fail, too
        if isinstance(error, NibtError) and not isinstance(error, Unsupported) and not of_server:
            return str(error)

        if self._failures is not None:
            self._failures += 1
            if self._failures == _MAX_FAILURES:
                raise error

        return f"the row {TOO_LARGE}" if is_out_of_memory(error) else message(error)


def worker_of(request: JobSpec, data: Dataset) -> Worker:
    """Return the worker of a job: of prompts of a generator, of pairs that are compared, or of other pairs."""
    if data.has_prompts:
        from nibt.jobs.answers import AnswerWorker  # the wing of generators is needed for prompts alone

        return AnswerWorker(request, data)
    return ComparingWorker(request, data) if data.compares else Worker(request, data)


class RowWorker(Worker, ABC):
    """A worker that explains each row alone."""

    @abstractmethod
    def read(self, record: Record) -> Any:
        """Read the inputs of a record."""

    def _prepare(self, chunks: Iterable[Chunk]) -> Iterator[PreparedRows | JsonObject | Chunk]:
        """Yield the records of each chunk with their inputs, or as failed rows, then the chunk without records."""
        for chunk in chunks:
            for record in chunk.records:
                try:
                    if record.error:
                        raise BadInput(record.error)
                    yield PreparedRows([record], self.read(record))
                except Exception as error:  # the error of a row is recorded in it
                    yield failed_row(record, message(error))
            yield Chunk(chunk.number, [])


class ComparingWorker(RowWorker):
    """A worker for pairs that each are compared with a caption or an image of their own."""

    def contrast(self) -> Contrast:
        """Return a caption or an image in place of those of the rows, only for the facts that all rows share."""
        for name in ("against", "against_images"):
            if as_list(getattr(self.request, name)):
                raise BadOption(f"{name} is given by a column, too: leave it out, or rename the column")

        templates = self.request.templates
        if getattr(self.data, "against", None) == "against":
            return Contrast.of("a", (), templates)
        return Contrast.of((), ImageInput(Image.new("RGB", (32, 32)), "blank"), templates)

    def describe(self) -> JsonObject:
        described = super().describe()
        options = {name: [] if name.startswith("against") else v for name, v in described["target"]["options"].items()}
        return {**described, "target": {**described["target"], "options": options}}

    def read(self, record: Record) -> Any:
        other = record.against
        assert other is not None
        compared = {"against": other.caption} if other.captions else {"against_images": self.data.load_image(other)}
        return self.data.read(record, {}), compared

    def _rows(self, prepared: PreparedRows, indices: list[int]) -> list[JsonObject]:
        (record,), (pair, compared), request = prepared.records, prepared.batch, self.request
        explanation = explain(
            *(self.spec.model, pair.image, pair.caption, request.method, request.target),
            templates=request.templates,
            batch_size=self.size,
            seed=request.seed,
            **compared,
        )
        assert isinstance(explanation, Explanation)
        return [explained_row(record, explanation)]
