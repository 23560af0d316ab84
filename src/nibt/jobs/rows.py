"""Conversion of explanations to rows of a Parquet file, and back.

``docs/guides/jobs.md`` describes the columns. The metadata of a file has what all its rows share (the method, the
model, the versions), so that explanations can be loaded from a single file.
"""

import json
from collections.abc import Sequence
from functools import lru_cache
from types import ModuleType
from typing import Any, TypeVar

from nibt.data import parquet
from nibt.datasets._table import as_utf8
from nibt.datasets.base import Record
from nibt.errors import BadInput, NibtError
from nibt.io import load_json
from nibt.records import JsonObject, json_schema
from nibt.results.attribution import ImageAttribution, TextAttribution
from nibt.results.base import Result
from nibt.results.explanation import Explanation

_KEY = b"nibt"
_SIDES: dict[str, type] = {"image": ImageAttribution, "text": TextAttribution}
_FIELDS: dict[str, tuple[str, str]] = {
    "source": ("image", "source"),
    "image_hash": ("image", "image_hash"),
    "caption": ("text", "caption"),
    "size": ("image", "size"),
    "grid": ("image", "grid"),
    "grid_error": ("image", "error"),
    "image_evaluations": ("image", "evaluations"),
    "region": ("image", "region"),
    "image_special_token_share": ("image", "special_token_share"),
    "image_path": ("image", "path"),
    "tokens": ("text", "tokens"),
    "text_scores": ("text", "scores"),
    "special": ("text", "special"),
    "words": ("text", "words"),
    "text_special_token_share": ("text", "special_token_share"),
    "text_path": ("text", "path"),
    "text_error": ("text", "error"),
    "text_evaluations": ("text", "evaluations"),
}
"""The columns of the fields of both attributions."""
NOTES = ("warnings", "codes")
_MAPPINGS = ("without", "shares", "reliance")  # of a word of an answer; Arrow has them as pairs


def explained_row(record: Record, explanation: Explanation) -> JsonObject:
    """Return the row of an explained pair."""
    data = explanation.to_json()
    fields = {column: data["sides"][side][name] for column, (side, name) in _FIELDS.items()}
    if "against" in data["sides"]:
        against = data["sides"]["against"]
        fields |= {f"against_{against['modality']}": against, "against_score": data["target"]["against"]["value"]}

    return {
        **fields,
        **compared_columns(record),
        **logged_columns(record),
        "row": record.row,
        "key": as_utf8(record.key),
        "source": as_utf8(record.source or fields["source"]),
        "similarity": data["similarity"],
        "image_score": data["target"]["image"]["value"],
        "text_score": data["target"]["text"]["value"],
        **{name: data[name] for name in NOTES},
        "error": None,
    }


def message(error: Exception) -> str:
    """Return the message of the error of a row."""
    return str(error) if isinstance(error, NibtError) else f"unexpected {type(error).__name__}: {error}"


def failed_row(record: Record, error: str) -> JsonObject:
    """Return the row of a pair that failed."""
    text, answer = (None if value is None else as_utf8(value) for value in (record.caption, record.answer))
    return {
        "row": record.row,
        "key": as_utf8(record.key),
        "source": as_utf8(record.source),
        "image_hash": record.digest(),
        "caption": text,
        "prompt": text,
        "forced_answer": answer,
        "error": as_utf8(error),
        **compared_columns(record),
        **logged_columns(record),
    }


def compared_columns(record: Record) -> JsonObject:
    """Return the columns of the caption or the image that a row is compared with, if it is."""
    other = record.against
    return {} if other is None else {"against": as_utf8(other.caption or other.source), "against_hash": other.digest()}


def logged_columns(record: Record) -> JsonObject:
    """Return the columns of what a log of an evaluation has of a row; null without a log."""
    reference = None if record.reference is None else as_utf8(record.reference)
    return {"reference": reference, "log_score": record.log_score}


_Result = TypeVar("_Result", bound=Result)


def explanation_of(row: JsonObject, shared: JsonObject) -> Explanation:
    """Build the explanation of a row."""
    values = {side: {"name": shared["targets"][side], "value": row[f"{side}_score"]} for side in _SIDES}
    sides: dict[str, JsonObject] = {side: {"modality": side} for side in _SIDES}
    for column, (side, name) in _FIELDS.items():
        sides[side][name] = row[column]
    against = row["against_image"] or row["against_text"]
    if against:
        sides["against"], values["against"] = against, {"name": "cosine", "value": row["against_score"]}
    options = dict(shared["target"]["options"])
    if row["against_hash"]:
        options |= {"against_images": [row["against"]], "against_images_hash": [row["against_hash"]]}
    elif row["against"] is not None:
        options["against"] = [row["against"]]

    explained = next(value for value in values.values() if value["name"] == shared["target"]["name"])
    target = {**shared["target"], "options": options, "value": explained["value"], **values}
    return result_of(Explanation, row, shared, sides=sides, similarity=row["similarity"], target=target)


def result_of(result: type[_Result], row: JsonObject, shared: JsonObject, **fields: object) -> _Result:
    """Build a result of a class from its fields, and those that all results have."""
    if row["error"] is not None:
        raise BadInput(f"row {row['row']} failed: {row['error']}")
    fields |= {name: shared[name] for name in ("method", "model", "versions")}
    fields |= {name: row[name] for name in NOTES}
    return result.from_json({"schema": result.schema, "kind": result.kind, **fields})


def encode_rows(rows: Sequence[JsonObject], shared: JsonObject, of_answers: bool = False) -> bytes:
    """Return the bytes of a Parquet file with these rows, and with the metadata that they share."""
    arrow = parquet.pyarrow("a job needs")[0]
    columns = schema(arrow)
    if of_answers:
        from nibt.jobs.answers import answer_schema

        columns = answer_schema(arrow)

    metadata = {_KEY: json.dumps(shared, sort_keys=True).encode()}
    filled = [{name: row.get(name) for name in columns.names} for row in rows]
    return parquet.encode(arrow.Table.from_pylist(filled, schema=columns.with_metadata(metadata)))


def plain_rows(table: Any) -> list[JsonObject]:
    """Return the rows of a table as plain data, in which mappings are dictionaries."""
    rows = table.to_pylist()
    for word in (word for row in rows for word in row.get("words") or ()):
        word |= {name: dict(word[name]) for name in _MAPPINGS if name in word}
    return rows


def shared_metadata(file: Any) -> JsonObject:
    """Return the metadata that the rows of an open Parquet file share."""
    metadata = file.schema_arrow.metadata or {}
    if _KEY not in metadata:
        raise BadInput("a part of the job has no metadata of nibt: move it away, and repeat the call")
    return load_json(metadata[_KEY])


@lru_cache
def schema(arrow: ModuleType) -> Any:
    """Return the Arrow schema of a file of rows, whose types are those of the fields of the attributions."""
    sides = {side: parquet.struct(json_schema(attribution, "serialization")) for side, attribution in _SIDES.items()}
    fields = [(column, sides[side].field(name).type) for column, (side, name) in _FIELDS.items()]
    fields += [(f"against_{side}", arrow_type) for side, arrow_type in sides.items()]
    fields += [(name, arrow.string()) for name in ("against", "against_hash")]
    numbers = ("similarity", "image_score", "text_score", "against_score")
    return row_schema(arrow, [*fields, *((name, arrow.float64()) for name in numbers)])


def row_schema(arrow: ModuleType, fields: Sequence[tuple[str, Any]]) -> Any:
    """Return the schema of these columns and those that all rows have."""
    text = arrow.string()
    of_log = [("reference", text), ("log_score", arrow.float64())]
    notes = [(name, arrow.list_(text)) for name in NOTES]
    return arrow.schema([("row", arrow.int64()), ("key", text), *fields, *of_log, *notes, ("error", text)])
