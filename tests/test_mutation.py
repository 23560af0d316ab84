"""Tests of the mutation script, on a small package."""

import importlib
import subprocess
import sys
from argparse import Namespace
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest

from tests.helpers import ROOT

pytestmark = pytest.mark.slow

CODE = """\
from typing_extensions import override


def add(first: int | None, second: int = 2) -> int:
    return (first or 0) + second


def far(value: int) -> bool:
    return value > 10


def unused(value: int) -> int:
    return value * 3


class Pairs(list):
    @override
    def __eq__(self, other: object) -> bool:
        return all(one is two for one, two in zip(self, other, strict=True))
"""


TESTS = """\
from nibt.core.arithmetic import Pairs, add, far


def test_add() -> None:
    assert add(3) == 5
    assert add(None, 1) == 1


def test_far() -> None:
    far(3)


def test_pairs() -> None:
    assert Pairs([1, 2]) == [1, 2]
"""
KNOWN = """\
[[equivalent]]
file = "core/arithmetic.py"
before = "return value > 10"
after = "return value > 11"
"""
SETTINGS = """\
[tool.mutmut]
only_mutate = ["src/nibt/core/*"]
pytest_add_cli_args_test_selection = ["tests"]
process_isolation = "forkserver"
forkserver_warmup = "none"
use_git_change_detection = false
"""


@pytest.fixture
def mutation(monkeypatch: pytest.MonkeyPatch) -> Iterator[ModuleType]:
    monkeypatch.syspath_prepend(ROOT / ".ci")
    yield importlib.import_module("mutation")
    for name in ("mutation", "tree"):
        sys.modules.pop(name, None)


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A repository with tested functions, one whose result no test reads, and one that no test calls."""
    root = tmp_path / "project"
    files = {
        "src/nibt/__init__.py": "",
        "src/nibt/core/__init__.py": "",
        "src/nibt/core/arithmetic.py": CODE,
        "tests/test_arithmetic.py": TESTS,
        "pyproject.toml": SETTINGS,
        ".ci/mutants.toml": KNOWN,
    }
    for name, text in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)
    subprocess.run(["git", "init", "--quiet"], cwd=root, check=True)
    subprocess.run(["git", "add", "."], cwd=root, check=True)
    return root


def test_the_sample_depends_only_on_the_seed(
    mutation: ModuleType, project: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(mutation.prepare_tree(tmp_path, project))
    draws = [list(mutation.draw_mutants(["core"], 3, seed)) for seed in (0, 0, 1)]
    assert draws[0] == draws[1] != draws[2]
    assert len(draws[0]) == 3
    with pytest.raises(SystemExit, match="'cor' is nothing under src/nibt"):
        mutation.draw_mutants(["cor"], 3, 0)


def test_equivalents_are_lines_of_the_source(mutation: ModuleType) -> None:
    for file, before, after in mutation.equivalents(ROOT / ".ci" / "mutants.toml"):
        lines = [line.strip() for line in (ROOT / mutation.PACKAGE / file).read_text(encoding="utf-8").splitlines()]
        assert set(before.splitlines()) <= set(lines), f"{file}: {before!r} is gone; remove it from .ci/mutants.toml"
        assert before != after


def test_run_kills_tested_mutants_and_reports_the_others(mutation: ModuleType, project: Path, tmp_path: Path) -> None:
    options = Namespace(into=tmp_path / "run", workers=2, only=["core"], sample=100, seed=0)
    results = mutation.run(options, project)
    status = {mutation.changed_lines(row["diff"]): row["status"] for row in results}
    of_line = {line: {status[pair] for pair in status if pair[0] == line} for line, _ in status}
    assert of_line["return (first or 0) + second"] == {"killed"}
    assert of_line["return value * 3"] == {"survived"}
    assert of_line["return value > 10"] == {"survived", "equivalent"}
    assert status["return value > 10", "return value > 11"] == "equivalent"
    assert any("zip(self, other)" in line for line in of_line), "an overriding method has mutants"
    assert {row["why"] for row in results if "value * 3" in row["diff"]} == {"no test executes it"}
    assert (project / "src/nibt/core/arithmetic.py").read_text() == CODE
    assert {folder.split()[0] for folder in mutation.table(results)} == {"folder", "core", "all"}


def test_a_test_that_fails_on_the_unchanged_code_ends_the_run(
    mutation: ModuleType, project: Path, tmp_path: Path
) -> None:
    (project / "tests/test_arithmetic.py").write_text(TESTS + "    assert add(1) == 0\n")
    options = Namespace(into=tmp_path / "run", workers=1, only=["core"], sample=1, seed=0)
    with pytest.raises(SystemExit, match="mutmut exits with 1"):
        mutation.run(options, project)
