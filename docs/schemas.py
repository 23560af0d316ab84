"""Writes the JSON Schemas of the files that nibt reads and writes into ``docs/schemas``: ``python docs/schemas.py``."""

import json
import re
from pathlib import Path
from typing import Any

from nibt import registry
from nibt.evaluation.bench.plan import Plan
from nibt.generators.results import answer
from nibt.heads import decomposition
from nibt.jobs.job import JobManifest
from nibt.records import json_schema
from nibt.results import attribution, audit, base, explanation, parts, regions, roar, word_parts
from nibt.results.base import Result
from nibt.slides import explanation as slide

FOLDER = Path(__file__).parent / "schemas"
RESULTS = (
    explanation.Explanation,
    regions.Regions,
    answer.AnswerExplanation,
    decomposition.Decomposition,
    slide.SlideExplanation,
    audit.Audit,
    parts.Parts,
    word_parts.WordParts,
    roar.Roar,
)
KINDS: dict[str, type] = {**{result.kind: result for result in RESULTS}, "job": JobManifest, "plan": Plan}
_SIGNATURE = {"type": "string", "description": "Files only: the version of nibt, the request and a digest."}


def flowing(text: str) -> str:
    """Return a text of a docstring in one line of Markdown."""
    rows = text.strip().startswith("|")  # a table
    joined = "\n".join(map(str.strip, text.strip().splitlines())) if rows else " ".join(text.split())
    return re.sub(r"``([^`]+)``", r"`\1`", joined)


def section(kind: type, name: str) -> dict[str, str]:
    """Return the entries of a section of the docstrings of a class and its base classes, in Markdown."""
    return {key: flowing(text) for key, text in registry.section(kind, name).items()}


def schema_of(kind: type) -> dict[str, Any]:
    """Return the JSON Schema of a kind of file, with the descriptions of the docstrings of results."""
    if not issubclass(kind, Result):
        return json_schema(kind)
    schema = json_schema(kind, "serialization")
    modules = (answer, attribution, audit, decomposition, explanation, base, parts, regions, roar, slide, word_parts)
    for name, node in [(kind.__name__, schema), *schema.get("$defs", {}).items()]:
        described = next((vars(module)[name] for module in modules if name in vars(module)), None)
        node["description"] = node.get("description", "").split("\n\nAttributes:")[0]
        for field, text in section(described, "Attributes").items() if described else ():
            if field in node["properties"]:
                node["properties"][field]["description"] = text
    head = {"schema": {"const": kind.schema}, "kind": {"const": kind.kind}, "signature": _SIGNATURE}
    required = ["schema", "kind", *schema["required"]]
    return {**schema, "properties": {**head, **schema["properties"]}, "required": required}


def schema_text(name: str) -> str:
    """Return the JSON Schema of a kind of file as text."""
    head = {"$schema": "https://json-schema.org/draft/2020-12/schema"}
    return json.dumps({**head, **schema_of(KINDS[name])}, indent=1, ensure_ascii=False) + "\n"


if __name__ == "__main__":
    FOLDER.mkdir(exist_ok=True)
    for name in KINDS:
        (FOLDER / f"{name}.json").write_text(schema_text(name), encoding="utf-8")
