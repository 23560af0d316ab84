"""The supported versions of the reference are the bounds in pyproject.toml, and were tested."""

import csv
import importlib.util
import re
from types import ModuleType

import pytest

from tests.helpers import ROOT

_ROW = re.compile(r"^\| (\w+) \| ([\d.]+) \| ([\d.]+) \|$", re.MULTILINE)


@pytest.fixture(scope="module")
def matrix() -> ModuleType:
    spec = importlib.util.spec_from_file_location("matrix", ROOT / ".ci" / "matrix.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def ranges() -> dict[str, tuple[str, str]]:
    text = (ROOT / "docs" / "reference" / "versions.md").read_text(encoding="utf-8")
    return {name: (oldest, newest) for name, oldest, newest in _ROW.findall(text)}


def test_oldest_versions_are_the_lower_bounds(matrix: ModuleType) -> None:
    bounds = matrix.required()
    assert {"torch", "transformers", "open_clip_torch", "timm", "pillow", "numpy"} <= set(ranges())
    for name, (oldest, _) in ranges().items():
        if name != "Python":
            bound = [int(number) for number in oldest.split(".")]
            assert bound[: len(matrix.lower(bounds[name]))] == list(matrix.lower(bounds[name])), name
            assert not any(bound[len(matrix.lower(bounds[name])) :]), name


def test_the_tests_of_both_ends_exist(matrix: ModuleType) -> None:
    missing = [name for name in matrix.CORE if not (ROOT / "tests" / name).exists()]
    assert missing == []


def test_both_ends_of_the_ranges_were_tested() -> None:
    rows = list(csv.DictReader((ROOT / ".ci" / "slow.csv").read_text(encoding="utf-8").splitlines()))
    for place, corner in enumerate(("oldest", "newest")):
        (row,) = [row for row in rows if row["part"] == corner]
        assert " 0 failed" in row["outcome"]
        for name, ends in ranges().items():
            assert f"{name} {ends[place]}" in row["versions"], f"{corner}: {name}"


def test_required_takes_the_highest_lower_bound(matrix: ModuleType) -> None:
    assert matrix.lower(matrix.required(("data", "test"))["pyarrow"]) == (15,)
    assert "nibt" not in matrix.required()
    assert "torch==2.6" in matrix.pip_arguments("oldest")
