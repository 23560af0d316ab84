"""Writes the JSON Schemas of the files that nibt reads and writes into ``docs/schemas``: ``python docs/schemas.py``."""

import json
from pathlib import Path

from nibt.evaluation.bench.plan import Plan
from nibt.jobs.manifest import JobManifest
from nibt.records import json_schema
from nibt.results.audit import Audit
from nibt.results.narrowing import NarrowingCurve
from nibt.results.records import ComparisonRecord, ExplanationRecord, RegionsRecord
from nibt.results.roar import Roar

FOLDER = Path(__file__).parent / "schemas"
KINDS: dict[str, type] = {
    "explanation": ExplanationRecord,
    "comparison": ComparisonRecord,
    "regions": RegionsRecord,
    "narrowing_curve": NarrowingCurve,
    "audit": Audit,
    "roar": Roar,
    "job": JobManifest,
    "plan": Plan,
}


def schema_text(name: str) -> str:
    """Return the JSON Schema of a kind of file as text."""
    head = {"$schema": "https://json-schema.org/draft/2020-12/schema"}
    return json.dumps({**head, **json_schema(KINDS[name])}, indent=1, ensure_ascii=False) + "\n"


if __name__ == "__main__":
    FOLDER.mkdir(exist_ok=True)
    for name in KINDS:
        (FOLDER / f"{name}.json").write_text(schema_text(name), encoding="utf-8")
