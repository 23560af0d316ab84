"""Conversion of explanations to rows of a Parquet file, and back.

``docs/reference/jobs.md`` describes the columns. The metadata of a file has what all its rows share (the method, the
model, the versions), so that explanations can be loaded from a single file.
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


def explained_row(record: Record, explanation: Explanation) -> dict[str, Any]:
    """Return the row of an explained pair."""
    data = explanation.to_json()
    image, text = data["image"], data["text"]
    return {
        "row": record.row,
        "key": as_utf8(record.key),
        "source": as_utf8(record.source or image["source"]),
        "image_hash": image["image_hash"],
        "caption": text["caption"],
        "size": image["size"],
        "similarity": data["similarity"],
        "image_score": data["score"]["image"]["value"],
        "text_score": data["score"]["text"]["value"],
        "grid_shape": list(explanation.grid.shape),
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
    """Return the row of a pair that failed."""
    caption = None if record.caption is None else as_utf8(record.caption)
    return {
        "row": record.row,
        "key": as_utf8(record.key),
        "source": as_utf8(record.source),
        "image_hash": image_hash,
        "caption": caption,
        "error": as_utf8(error),
    }


def explanation_of(row: Mapping[str, Any], shared: Mapping[str, Any]) -> Explanation:
    """Build the explanation of a row."""
    if row["error"] is not None:
        raise BadInput(f"row {row['row']} failed: {row['error']}")
    rows, columns = row["grid_shape"]
    grid = [list(row["grid"][line * columns : (line + 1) * columns]) for line in range(rows)]
    values = {side: {"target": shared["targets"][side], "value": row[f"{side}_score"]} for side in ("image", "text")}
    return Explanation.from_json(
        {
            "schema": SCHEMA,
            "kind": "explanation",
            "similarity": row["similarity"],
            "score": {**shared["target"], "value": row["image_score"], **values},
            "method": shared["method"],
            "model": shared["model"],
            "versions": shared["versions"],
            "warnings": row["warnings"],
            "image": {
                "modality": "image",
                **{name: row[name] for name in ("source", "image_hash", "size", "region")},
                "grid": grid,
                "special_share": row["image_special_share"],
                "path": row["image_path"],
            },
            "text": {
                "modality": "text",
                **{name: row[name] for name in ("caption", "words", "tokens", "special")},
                "scores": row["text_scores"],
                "special_share": row["text_special_share"],
                "path": row["text_path"],
            },
            "ranking": [],
        }
    )


def encode_rows(rows: Sequence[Mapping[str, Any]], shared: Mapping[str, Any]) -> bytes:
    """Return the bytes of a Parquet file with these rows, and with the metadata that they share."""
    arrow = parquet.pyarrow("a job needs")[0]
    metadata = {_KEY: json.dumps(shared, sort_keys=True).encode()}
    filled = [{name: row.get(name) for name in schema(arrow).names} for row in rows]
    return parquet.encode(arrow.Table.from_pylist(filled, schema=schema(arrow).with_metadata(metadata)))


def shared_metadata(file: Any) -> dict[str, Any]:
    """Return the metadata that the rows of an open Parquet file share."""
    return json.loads(file.schema_arrow.metadata[_KEY])


def schema(arrow: Any) -> Any:
    """Return the Arrow schema of a file of rows."""
    texts, numbers = arrow.list_(arrow.string()), arrow.list_(arrow.float32())
    real, integer = arrow.float64(), arrow.int32()
    path_types = {
        "baseline": arrow.string(),
        "quadrature": arrow.string(),
        "steps": integer,
        "layers": arrow.list_(integer),
    }
    path = arrow.struct([(name, path_types.get(name, real)) for name in _PATH])
    word = arrow.struct([("text", arrow.string()), ("score", real), ("tokens", arrow.list_(integer))])
    return arrow.schema(
        [
            ("row", arrow.int64()),
            ("key", arrow.string()),
            ("source", arrow.string()),
            ("image_hash", arrow.string()),
            ("caption", arrow.string()),
            ("size", arrow.list_(integer)),
            ("similarity", real),
            ("image_score", real),
            ("text_score", real),
            ("grid_shape", arrow.list_(integer)),
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
