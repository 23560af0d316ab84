"""Answers as rows of a Parquet file, and back. ``docs/batch.md`` describes the columns.

What all rows of a file share (the method, the model, the versions) is in its metadata, so that each file alone is
enough to build its explanations again.
"""

import json
from collections.abc import Mapping, Sequence
from typing import Any

from nibt import parquet
from nibt.batching.source import Raw, written
from nibt.errors import BadInput
from nibt.explanation import SCHEMA, Explanation

_KEY = b"nibt"
_NARROWING = ("reference", "rule", "steps", "layers", "at_input", "at_reference", "sum", "gap")


def row_of(raw: Raw, answer: Explanation) -> dict[str, Any]:
    """The row of an answer."""
    told = answer.to_json()
    image, text, narrowing = told["image"], told["text"], told["narrowing"]
    return {
        "row": raw.row, "key": written(raw.key), "picture": written(told["picture"]),
        "picture_hash": told["picture_hash"], "caption": told["caption"],
        "size": told["size"], "similarity": told["similarity"], "image_score": told["score"]["image"]["value"],
        "text_score": told["score"]["text"]["value"], "grid": image["grid"],
        "image_scores": [score for line in image["scores"] for score in line], "region": image["region"],
        "image_special_share": image["special_share"], "tokens": text["tokens"], "text_scores": text["scores"],
        "special": text["special"], "words": text["words"], "text_special_share": text["special_share"],
        "image_narrowing": narrowing.get("image"), "text_narrowing": narrowing.get("text"),
        "warnings": told["warnings"], "error": None,
    }  # fmt: skip


def failed_row(raw: Raw, error: str) -> dict[str, Any]:
    """The row of a pair without an answer."""
    caption = None if raw.caption is None else written(raw.caption)
    return {"row": raw.row, "key": written(raw.key), "picture": written(raw.name), "caption": caption,
            "error": written(error)}  # fmt: skip


def explanation_of(row: Mapping[str, Any], told: Mapping[str, Any]) -> Explanation:
    """The answer of a row, by what its file tells of all rows.

    Raises:
        BadInput: the pair has no answer.

    """
    if row["error"] is not None:
        raise BadInput(f"row {row['row']} has no answer: {row['error']}")
    rows, columns = row["grid"]
    scores = [list(row["image_scores"][line * columns : (line + 1) * columns]) for line in range(rows)]
    values = {side: {"target": told["targets"][side], "value": row[f"{side}_score"]} for side in ("image", "text")}
    narrowing = {side: row[f"{side}_narrowing"] for side in values if row[f"{side}_narrowing"] is not None}
    return Explanation.from_json({
        "schema": SCHEMA, "picture": row["picture"], "picture_hash": row["picture_hash"], "size": row["size"],
        "caption": row["caption"],
        "similarity": row["similarity"], "score": {**told["target"], "value": row["image_score"], **values},
        "method": told["method"], "model": told["model"], "versions": told["versions"], "warnings": row["warnings"],
        "image": {"grid": [rows, columns], "scores": scores, "region": row["region"],
                  "special_share": row["image_special_share"]},
        "text": {"tokens": row["tokens"], "scores": row["text_scores"], "special": row["special"],
                 "words": row["words"], "special_share": row["text_special_share"]},
        "narrowing": narrowing, "ranking": [],
    })  # fmt: skip


def encoded(rows: Sequence[Mapping[str, Any]], told: Mapping[str, Any]) -> bytes:
    """The file of rows, with what it tells of all of them."""
    arrow = parquet.pyarrow("a job needs")[0]
    metadata = {_KEY: json.dumps(told, sort_keys=True).encode()}
    filled = [{name: row.get(name) for name in schema(arrow).names} for row in rows]
    return parquet.encoded(arrow.Table.from_pylist(filled, schema=schema(arrow).with_metadata(metadata)))


def told_of(file: Any) -> dict[str, Any]:
    """What an open Parquet file tells of all its rows."""
    return json.loads(file.schema_arrow.metadata[_KEY])


def schema(arrow: Any) -> Any:
    """The columns of a file."""
    texts, numbers = arrow.list_(arrow.string()), arrow.list_(arrow.float32())
    real, whole = arrow.float64(), arrow.int32()
    kinds = {"reference": arrow.string(), "rule": arrow.string(), "steps": whole, "layers": arrow.list_(whole)}
    narrowing = arrow.struct([(name, kinds.get(name, real)) for name in _NARROWING])
    word = arrow.struct([("text", arrow.string()), ("score", real), ("tokens", arrow.list_(whole))])
    return arrow.schema([
        ("row", arrow.int64()), ("key", arrow.string()), ("picture", arrow.string()),
        ("picture_hash", arrow.string()), ("caption", arrow.string()),
        ("size", arrow.list_(whole)), ("similarity", real), ("image_score", real), ("text_score", real),
        ("grid", arrow.list_(whole)), ("image_scores", numbers), ("region", arrow.list_(real)),
        ("image_special_share", real), ("tokens", texts), ("text_scores", numbers),
        ("special", arrow.list_(arrow.bool_())), ("words", arrow.list_(word)), ("text_special_share", real),
        ("image_narrowing", narrowing), ("text_narrowing", narrowing), ("warnings", texts), ("error", arrow.string()),
    ])  # fmt: skip
