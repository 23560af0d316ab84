"""Answers as rows of a Parquet file, and back. ``docs/batch.md`` describes the columns.

What all rows of a file share (the method, the model, the versions) is in its metadata, so that each file alone is
enough to build its explanations again.
"""

import json
from collections.abc import Mapping, Sequence
from typing import Any

from nibt import parquet
from nibt.datasets._table import as_utf8
from nibt.datasets.base import Record
from nibt.errors import BadInput
from nibt.results.explanation import Explanation
from nibt.results.records import SCHEMA

_KEY = b"nibt"
_PATH = ("baseline", "quadrature", "steps", "layers", "tolerance", "at_input", "at_baseline", "sum", "gap")


def row_of(record: Record, answer: Explanation) -> dict[str, Any]:
    """The row of an answer."""
    data = answer.to_json()
    image, text = data["image"], data["text"]
    return {
        "row": record.row,
        "key": as_utf8(record.key),
        "source": as_utf8(image["source"]),
        "image_hash": image["image_hash"],
        "caption": text["caption"],
        "size": image["size"],
        "similarity": data["similarity"],
        "image_score": data["score"]["image"]["value"],
        "text_score": data["score"]["text"]["value"],
        "grid_shape": list(answer.grid.shape),
        "grid": [score for line in image["grid"] for score in line],
        "region": image["region"],
        "image_special_share": image["special_share"],
        "tokens": text["tokens"],
        "text_scores": text["scores"],
        "special": text["special"],
        "words": text["words"],
        "text_special_share": text["special_share"],
        "image_path": image["path"],
        "text_path": text["path"],
        "warnings": data["warnings"],
        "error": None,
    }


def failed_row(record: Record, error: str, image_hash: str) -> dict[str, Any]:
    """The row of a pair that could not be explained; ``image_hash`` is empty where its image cannot be read."""
    caption = None if record.caption is None else as_utf8(record.caption)
    return {
        "row": record.row,
        "key": as_utf8(record.key),
        "source": as_utf8(record.source),
        "image_hash": image_hash,
        "caption": caption,
        "error": as_utf8(error),
    }


def explanation_of(row: Mapping[str, Any], told: Mapping[str, Any]) -> Explanation:
    """The answer of a row, by what its file tells of all rows.

    Raises:
        BadInput: the pair has no answer.

    """
    if row["error"] is not None:
        raise BadInput(f"row {row['row']} has no answer: {row['error']}")
    rows, columns = row["grid_shape"]
    grid = [list(row["grid"][line * columns : (line + 1) * columns]) for line in range(rows)]
    values = {side: {"target": told["targets"][side], "value": row[f"{side}_score"]} for side in ("image", "text")}
    return Explanation.from_json(
        {
            "schema": SCHEMA,
            "kind": "explanation",
            "similarity": row["similarity"],
            "score": {**told["target"], "value": row["image_score"], **values},
            "method": told["method"],
            "model": told["model"],
            "versions": told["versions"],
            "warnings": row["warnings"],
            "image": {
                **{name: row[name] for name in ("source", "image_hash", "size", "region")},
                "grid": grid,
                "special_share": row["image_special_share"],
                "path": row["image_path"],
            },
            "text": {
                **{name: row[name] for name in ("caption", "words", "tokens", "special")},
                "scores": row["text_scores"],
                "special_share": row["text_special_share"],
                "path": row["text_path"],
            },
            "ranking": [],
        }
    )


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
    kinds = {"baseline": arrow.string(), "quadrature": arrow.string(), "steps": whole, "layers": arrow.list_(whole)}
    path = arrow.struct([(name, kinds.get(name, real)) for name in _PATH])
    word = arrow.struct([("text", arrow.string()), ("score", real), ("tokens", arrow.list_(whole))])
    return arrow.schema(
        [
            ("row", arrow.int64()),
            ("key", arrow.string()),
            ("source", arrow.string()),
            ("image_hash", arrow.string()),
            ("caption", arrow.string()),
            ("size", arrow.list_(whole)),
            ("similarity", real),
            ("image_score", real),
            ("text_score", real),
            ("grid_shape", arrow.list_(whole)),
            ("grid", numbers),
            ("region", arrow.list_(real)),
            ("image_special_share", real),
            ("tokens", texts),
            ("text_scores", numbers),
            ("special", arrow.list_(arrow.bool_())),
            ("words", arrow.list_(word)),
            ("text_special_share", real),
            ("image_path", path),
            ("text_path", path),
            ("warnings", texts),
            ("error", arrow.string()),
        ]
    )
