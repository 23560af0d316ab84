"""Workers that explain the answers of a generator, and the choice of the worker of a job."""

from collections.abc import Iterable, Iterator

from nibt.data.pair import as_list
from nibt.datasets.base import Dataset
from nibt.engine.answers import explain_answer, resolved_method
from nibt.engine.spec import versions
from nibt.errors import BadOption, CannotLoad
from nibt.jobs.chunks import Chunk
from nibt.jobs.rows import answer_row, failed_row
from nibt.jobs.worker import JobSpec, PreparedRows, Worker, message
from nibt.methods.base import MethodSpec
from nibt.models._answers import SOURCES
from nibt.models._load_generator import load_generator
from nibt.models._request import GenerationOptions, check_loading
from nibt.records import JsonObject


def worker_of(request: JobSpec, data: Dataset) -> Worker:
    """Return the worker of a job: of answers, if its rows are prompts of a generator."""
    return (AnswerWorker if data.has_prompts else Worker)(request, data)


class AnswerWorker(Worker):
    """A worker with a generator, which explains the answer of each row alone; its words are a batch."""

    of_answers = True

    def load(self) -> None:
        request = self.request
        self._against = _alternative(request)
        check_loading(request.loading, GenerationOptions, "processor")
        self._method = MethodSpec.of(request.method, request.variant, request.options)
        try:
            self._generator = load_generator(request.model, **request.loading).renewed(anew=True)
        except CannotLoad as error:
            raise CannotLoad(f"rows with a column of prompts need a generator: {error}") from error
        self._record = resolved_method(self._method, self._generator.answers, request.seed)[1]

    def describe(self) -> JsonObject:
        narrowed = [source for source in SOURCES if source in self._generator.answers.sources]
        compared = {} if self._against is None else {"against": self._against}
        return {
            "method": self._record,
            "target": {
                "name": "log_probability" if self._against is None else "logit_difference",
                "options": {"narrow": narrowed, **compared},
            },
            "model": self._generator.record(),
            "versions": versions(),
            "batch_size": self.size,
            "warnings": list(self._generator.request.notes),
        }

    def _prepare(self, chunks: Iterable[Chunk]) -> Iterator[PreparedRows | JsonObject | Chunk]:
        """Yield the records of each chunk with their images, or as failed rows, then the chunk without records."""
        for chunk in chunks:
            for record in chunk.records:
                try:
                    image = None if record.error else self.data.load_image(record)
                except Exception as error:  # the error of a row is recorded in it
                    yield failed_row(record, message(error), record.digest())
                    continue
                yield failed_row(record, record.error, "") if image is None else PreparedRows([record], image)
            yield Chunk(chunk.number, [])

    def _rows(self, prepared: PreparedRows, indices: list[int]) -> list[JsonObject]:
        (record,) = prepared.records
        explanation = explain_answer(
            self._generator,
            prepared.batch,
            record.caption or "",
            record.answer,
            self._method,
            against=self._against,
            batch_size=self.size,
            seed=self.request.seed,
        )
        self._failures = None
        return [answer_row(record, explanation)]


def _alternative(request: JobSpec) -> str | None:
    """Return the word that each word of an answer is compared with; other options of targets are for pairs."""
    against = as_list(request.against)
    if request.target != "cosine" or as_list(request.against_images) or as_list(request.templates):
        raise BadOption(
            "rows with prompts explain log-probabilities, or logits against one word: leave out the target, its images "
            f"and its templates (got the target {request.target!r})"
        )
    if len(against) > 1:
        raise BadOption(f"against must be one word for rows with prompts (got {', '.join(map(repr, against))})")
    return against[0] if against else None
