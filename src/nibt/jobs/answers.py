"""Rows of prompts, whose answers are explained: the worker of a generator, and its columns."""

from functools import lru_cache
from types import ModuleType
from typing import Any

from nibt.data import parquet
from nibt.data.pair import as_list
from nibt.datasets._table import as_utf8
from nibt.datasets.base import Record
from nibt.engine.spec import versions
from nibt.errors import BadOption, CannotLoad, check_names
from nibt.generators.answers import SOURCES
from nibt.generators.explain import explain_answer, resolved_method
from nibt.generators.loading import load_generator, loading_options
from nibt.generators.results.answer import AnswerExplanation
from nibt.jobs.rows import NOTES, logged_columns, result_of, row_schema
from nibt.jobs.worker import PreparedRows, RowWorker
from nibt.records import JsonObject, json_schema

_ANSWER_FIELDS = (
    "source",
    "image_hash",
    "size",
    "region",
    "processed_size",
    "prompt",
    "answer",
    "prompt_words",
    "words",
    "server",
)
_VARYING = ("other_images", "other_images_hash", "tokens")
"""The options of the target of an answer that differ between rows: lists, empty where the target lacks them."""


class AnswerWorker(RowWorker):
    """A worker with a generator, which explains the answer of each row alone; its words are a batch."""

    of_answers = True

    def load(self) -> None:
        request = self.request
        foreign = {"target": request.target not in (None, "cosine")}  # other options of targets are for pairs
        foreign |= {name: bool(as_list(getattr(request, name))) for name in ("against_images", "templates")}
        if any(foreign.values()):
            raise BadOption(
                "rows with prompts explain log-probabilities, or logits against one word: leave out "
                f"{' and '.join(name for name, is_set in foreign.items() if is_set)}"
            )

        against = as_list(request.against)
        if len(against) > 1:
            raise BadOption(f"against must be one word for rows with prompts (got {', '.join(map(repr, against))})")

        self._against = against[0] if against else None
        check_names("loading options", request.loading, {**loading_options(request.model), "processor": None})
        try:
            self._generator = load_generator(request.model, **request.loading).renewed(anew=True)
        except CannotLoad as error:
            raise CannotLoad(f"rows with a column of prompts need a generator: {error}") from error

        self._record = resolved_method(request.method, self._generator.answers, request.seed)[1]
        self.fingerprint = self._generator.fingerprint()

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
            "warnings": list(self._generator.notes),
        }

    def read(self, record: Record) -> Any:
        return self.data.load_image(record)

    def _rows(self, prepared: PreparedRows, indices: list[int]) -> list[JsonObject]:
        (record,) = prepared.records
        explanation = explain_answer(
            self._generator,
            prepared.batch,
            record.caption or "",
            record.answer,
            self.request.method,
            against=self._against,
            batch_size=self.size,
            seed=self.request.seed,
        )
        return [answer_row(record, explanation)]


def answer_row(record: Record, explanation: AnswerExplanation) -> JsonObject:
    """Return the row of an explained answer."""
    data = explanation.to_json()
    options = data["target"]["options"]
    return {
        **{name: data[name] for name in (*_ANSWER_FIELDS, *NOTES)},
        **{name: options.get(name, []) for name in _VARYING},
        **logged_columns(record),
        "row": record.row,
        "key": as_utf8(record.key),
        "source": as_utf8(record.source or data["source"]),
        "forced_answer": record.answer,
        "error": None,
    }


def answer_of(row: JsonObject, shared: JsonObject) -> AnswerExplanation:
    """Build the explanation of a row of an answer."""
    options = shared["target"]["options"]
    varying = {name: row[name] for name in _VARYING if name != "tokens" or "against" in options}
    target = {**shared["target"], "options": {**options, **varying}}
    fields = {name: row[name] for name in _ANSWER_FIELDS}
    return result_of(AnswerExplanation, row, shared, **fields, written=row["forced_answer"] is None, target=target)


@lru_cache
def answer_schema(arrow: ModuleType) -> Any:
    """Return the Arrow schema of a file of rows of answers, whose types are those of the fields of explanations."""
    declared = json_schema(AnswerExplanation, "serialization")
    text = arrow.string()
    properties = {name: declared["properties"][name] for name in _ANSWER_FIELDS}
    fields = [(field.name, field.type) for field in parquet.struct({**declared, "properties": properties})]
    varying = [(name, arrow.list_(text)) for name in _VARYING]
    return row_schema(arrow, [*fields, ("forced_answer", text), *varying])
