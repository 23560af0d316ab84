"""The answer for two of a kind: which parts of two pictures, or which words of two captions, make them alike."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from nibt.results.explanation import JsonSerializable, load, question_line, record, recorded, shortened
from nibt.results.part import Part, TextAttribution, read_part

SCHEMA = 2


@dataclass(frozen=True, eq=False, repr=False)
class Comparison(JsonSerializable):
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
            "schema": SCHEMA,
            "kind": "comparison",
            **record(self),
            "first": self.first.to_json(),
            "second": self.second.to_json(),
        }

    def __repr__(self) -> str:
        return "\n".join(
            [
                f"Comparison of {self.first.source} with {self.second.source}",
                f"  {question_line(self)}",
                *(f"  {name:6} {_short(part)}" for name, part in self.parts.items()),
                *(f"  warning: {warning}" for warning in self.warnings),
            ]
        )

    @classmethod
    def load(cls, path: str | Path) -> "Comparison":
        """Read a JSON file of one pair. Pictures come along if they are still where they were.

        Raises:
            BadInput: the file is missing, or is no comparison of this schema.

        """
        return load(path, _from_json, "comparison")


def _short(part: Part) -> str:
    if isinstance(part, TextAttribution):
        return shortened([f"{word.text} {word.score:+.4f}" for word in part.words])
    rows, columns = part.grid.shape
    return f"{rows} x {columns}, from {float(part.grid.min()):+.4f} to {float(part.grid.max()):+.4f}"


def _from_json(data: dict[str, Any]) -> Comparison:
    if (data["schema"], data["kind"]) != (SCHEMA, "comparison"):
        raise ValueError(f"schema {data['schema']} of {data['kind']}, expected {SCHEMA} of comparison")
    parts = {name: read_part(data[name]) for name in ("first", "second")}
    return Comparison(**parts, **recorded(data))
