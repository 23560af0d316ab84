"""Tests of ``docs/schemas``: the schemas are current, and files that nibt writes match them."""

import json
import tomllib
from pathlib import Path
from types import ModuleType
from typing import Any

import jsonschema
import pytest

import nibt
from nibt.datasets.scenes import Scenes
from tests import tiny
from tests.documents import load_docs_module
from tests.helpers import compare, explain_with_table, noise_pairs

DOCS = Path(__file__).parents[2] / "docs"


def _schemas() -> ModuleType:
    return load_docs_module("schemas")


def _check(name: str, data: Any) -> None:
    schema = json.loads((DOCS / "schemas" / f"{name}.json").read_text())
    jsonschema.Draft202012Validator.check_schema(schema)
    jsonschema.validate(data, schema)
    first_required = next(key for key in schema["required"] if key in data)
    with pytest.raises(jsonschema.ValidationError, match=first_required):
        jsonschema.validate({key: value for key, value in data.items() if key != first_required}, schema)


def test_schemas_are_current() -> None:
    schemas = _schemas()
    for name in schemas.KINDS:
        assert (schemas.FOLDER / f"{name}.json").read_text() == schemas.schema_text(name), "run python docs/generate.py"
    assert {file.stem for file in schemas.FOLDER.glob("*.json")} == set(schemas.KINDS)


def test_answers_match_their_schemas(tmp_path: Path) -> None:
    explanation, regions = explain_with_table()
    comparison = compare("clip", tiny.image(seed=0), tiny.image(seed=1))
    decompositions = [
        nibt.decompose(tiny.model("clip"), tiny.image(), "a cat", side=side) for side in ("image", "text")
    ]
    for result in (explanation, regions, comparison, *decompositions):
        result.save(tmp_path / "x.json", overwrite=True)
        _check(result.kind, json.loads((tmp_path / "x.json").read_text()))


def test_labels_and_methods_without_a_path_match_their_schema(tmp_path: Path) -> None:
    answer = nibt.explain_ranking(tiny.model("clip"), tiny.image(), list(tiny.CAPTIONS[:2]), method="grad_cam")
    answer = answer[0] if isinstance(answer, list) else answer
    answer.save(tmp_path / "labels.json")
    _check("explanation", json.loads((tmp_path / "labels.json").read_text()))


@pytest.mark.parametrize(
    "path", sorted((Path(nibt.__file__).parent / "evaluation/bench/plans").glob("*.toml")), ids=lambda path: path.stem
)
def test_plans_match_their_schema(path: Path) -> None:
    _check("plan", tomllib.loads(path.read_text(encoding="utf-8")))


@pytest.mark.slow
def test_results_match_their_schemas(tmp_path: Path) -> None:
    nibt.audit("scenes", list(Scenes(count=8)), "ones", quick=True).save(tmp_path / "audit.json")
    model = tiny.model("clip")
    roar = nibt.roar(model, noise_pairs(10), "ones", out=tmp_path / "run", repeats=1, trainable="features", epochs=1)
    roar.save(tmp_path / "roar.json")
    for name in ("audit", "roar"):
        _check(name, json.loads((tmp_path / f"{name}.json").read_text()))


@pytest.mark.slow
def test_manifests_match_their_schema(tmp_path: Path) -> None:
    pytest.importorskip("pyarrow", reason="jobs write Parquet files")
    nibt.batch("scenes", Scenes(count=2), tmp_path / "job")
    _check("job", json.loads((tmp_path / "job" / "manifest.json").read_text()))
