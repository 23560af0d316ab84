"""The answer for two of a kind: which parts of two pictures, or which words of two captions, make them alike."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from nibt.explanation import Saved, load, record, recorded
from nibt.part import Part, narrowings, read_part

SCHEMA = 1


@dataclass(frozen=True)
class Comparison(Saved):
    """Both parts of one answer, and the question that they answer.

    ``first`` and ``second`` are two pictures (``grid``: signed scores of the patches, rows x columns) or two captions
    (``words``: each word with its signed score), each explained as the other sees it; ``similarity`` is the cosine of
    the two, ``score`` what was explained in each place.
    """

    first: Part
    second: Part
    similarity: float
    score: Mapping[str, Any]
    method: Mapping[str, Any]
    model: Mapping[str, Any]
    versions: Mapping[str, str]
    warnings: tuple[str, ...] = ()

    @property
    def parts(self) -> Mapping[str, Part]:
        """Both by their names."""
        return {"first": self.first, "second": self.second}

    def to_json(self) -> dict[str, Any]:
        """Plain data, the form of the JSON files."""
        return {
            "schema": SCHEMA, "kind": "comparison", **record(self), "first": self.first.to_json(),
            "second": self.second.to_json(), "narrowing": narrowings(self.parts),
        }  # fmt: skip

    @classmethod
    def load(cls, path: str | Path) -> "Comparison":
        """Read a JSON file of one pair. Pictures come along if they are still where they were.

        Raises:
            BadInput: the file is missing, or is no comparison of this schema.

        """
        return load(path, _from_json, "comparison")


def _from_json(data: dict[str, Any]) -> Comparison:
    if (data["schema"], data["kind"]) != (SCHEMA, "comparison"):
        raise ValueError(f"schema {data['schema']} of {data['kind']}, expected {SCHEMA} of comparison")
    parts = {name: read_part(data[name], data["narrowing"].get(name)) for name in ("first", "second")}
    return Comparison(**parts, **recorded(data))
