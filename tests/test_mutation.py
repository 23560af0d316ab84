"""Tests of the mutation script, on a small package."""

import ast
import importlib
import json
import subprocess
import sys
from argparse import Namespace
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest

from tests.helpers import ROOT

CODE = """\
def add(first: int | None, second: int = 2) -> int:
    return (first or 0) + second


def far(value: int) -> bool:
    return value > 10


def unused(value: int) -> int:
    return value * 3
"""


TESTS = """\
from nibt.core.arithmetic import add, far


def test_add() -> None:
    assert add(3) == 5
    assert add(None, 1) == 1


def test_far() -> None:
    far(3)
"""


@pytest.fixture
def mutation(monkeypatch: pytest.MonkeyPatch) -> Iterator[ModuleType]:
    monkeypatch.syspath_prepend(ROOT / ".ci")
    yield importlib.import_module("mutation")
    for name in ("mutation", "tree"):
        sys.modules.pop(name, None)


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A repository with a tested function, one whose result no test reads, and one that no test calls."""
    root = tmp_path / "project"
    files = {
        "src/nibt/__init__.py": "",
        "src/nibt/core/__init__.py": "",
        "src/nibt/core/arithmetic.py": CODE,
        "tests/test_arithmetic.py": TESTS,
        "pyproject.toml": "",
        ".ci/mutants.toml": "",
    }
    for name, text in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)
    subprocess.run(["git", "init", "--quiet"], cwd=root, check=True)
    subprocess.run(["git", "add", "."], cwd=root, check=True)
    return root


def test_places_leave_out_annotations(mutation: ModuleType, project: Path) -> None:
    grouped = mutation.places(project, ["core/arithmetic.py"])
    lines = {start[0] for _, start, _ in grouped}
    assert lines == {1, 2, 6, 10}
    columns = {start[1] for _, start, _ in grouped if start[0] == 1}
    assert min(columns) > CODE.index("second"), "the | of int | None is no place, the default is one"


def test_places_leave_out_what_does_not_compute(mutation: ModuleType, project: Path) -> None:
    (project / "src/nibt/core/arithmetic.py").write_text(
        "@dataclass(frozen=True)\nclass Point(Base):\n    @override\n    def pairs(self, other: list) -> Iterator:\n"
        "        return zip(self, other, strict=True)\n\n\n@dataclasses.dataclass(frozen=True)\n@cache\nclass Line:\n"
        "    flag = True\n\n\n@dataclass(frozen=True, eq=False)\nclass Plane:\n    pass\n"
    )
    lines = [start[0] for _, start, _ in mutation.places(project, ["core/arithmetic.py"])]
    assert lines == [9, 11, 14, 14, 14], "the cache, the flag, and a decorator with another argument"


def test_draw_mutants_depends_only_on_the_seed(mutation: ModuleType, project: Path) -> None:
    draws = [mutation.draw_mutants(project, ["core/arithmetic.py"], 3, seed) for seed in (0, 0, 1)]
    assert draws[0] == draws[1] != draws[2]
    assert len(draws[0]) == 3
    for mutant in draws[0]:
        assert ast.dump(ast.parse(mutant.code)) != ast.dump(ast.parse(CODE))


def test_target_files_rejects_unknown_targets(mutation: ModuleType, project: Path) -> None:
    assert mutation.target_files(project, ["core"]) == ["core/__init__.py", "core/arithmetic.py"]
    with pytest.raises(SystemExit, match="no tracked file under src/nibt matches 'cor'"):
        mutation.target_files(project, ["cor"])


def test_statement_span_is_the_smallest_statement(mutation: ModuleType) -> None:
    module = ast.parse(
        "@wrap\ndef f(\n    a=1,\n):\n    if a:\n        b = (\n            1\n        )\n    return b\n"
    )
    assert [mutation.statement_span(module, line) for line in (1, 3, 5, 7, 9)] == [
        (1, 4),
        (1, 4),
        (5, 5),
        (6, 8),
        (9, 9),
    ]


def test_choose_tests_takes_short_tests_within_the_budget(mutation: ModuleType) -> None:
    seconds = {"a.py::slow": 9.0, "a.py::fast": 1.0, "test_nib.py::one": 2.0, "test_nib.py::two": 3.0}
    ordered = ["test_nib.py::one", "test_nib.py::two", "a.py::fast", "a.py::slow"]
    assert mutation.choose_tests(list(seconds), seconds, "nib", 100) == ordered
    assert mutation.choose_tests(list(seconds), seconds, "_nib", 4) == ["test_nib.py::one", "a.py::fast"]
    assert mutation.choose_tests(list(seconds), seconds, "m2ib", 4) == ["a.py::fast", "test_nib.py::one"]
    assert mutation.choose_tests(["a.py::slow"], seconds, "nib", 4) == ["a.py::slow"], "at least one test runs"


def test_equivalents_are_lines_of_the_source(mutation: ModuleType) -> None:
    for file, before, after in mutation.equivalents(ROOT / ".ci" / "mutants.toml"):
        lines = [line.strip() for line in (ROOT / mutation.PACKAGE / file).read_text(encoding="utf-8").splitlines()]
        assert set(before.splitlines()) <= set(lines), f"{file}: {before!r} is gone; remove it from .ci/mutants.toml"
        assert before != after


def test_coverage_map_records_only_files_that_changed(
    mutation: ModuleType, project: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each run of pytest is replaced by a coverage file of the tests of its files, which run one line each."""
    runs: list[list[str]] = []
    line = {"tests/test_arithmetic.py": 2, "tests/test_more.py": 6}

    def record(tree: Path, arguments: list[str], file: Path, seconds: float | None = None) -> int:
        names = Path(arguments[-1].removeprefix("@")).read_text().splitlines()
        data = mutation.CoverageData(str(file.with_name(file.stem.replace("suite", "coverage"))))
        for name in names:
            data.set_context(f"{name}::test|run")
            data.add_lines({str(tree / "src/nibt/core/arithmetic.py"): [line[name]]})
        data.write()
        file.write_text(json.dumps({f"{name}::test": ["passed", 0.5] for name in names}))
        runs.append(names)
        return 0

    monkeypatch.setattr(mutation, "run_pytest", record)
    mutant = mutation.Mutant("core/arithmetic.py", "", (2, 2), "", "")

    def chosen() -> list[str]:
        return mutation.CoverageMap(project, tmp_path, ["tests"], 0).tests(mutant)

    (project / "tests/test_more.py").write_text("first = 1\n")
    assert chosen() == ["tests/test_arithmetic.py::test"]
    assert chosen() == ["tests/test_arithmetic.py::test"]
    assert runs == [["tests/test_arithmetic.py", "tests/test_more.py"]]
    line["tests/test_more.py"] = 2
    (project / "tests/test_more.py").write_text("second = 2\n")
    assert chosen() == ["tests/test_arithmetic.py::test", "tests/test_more.py::test"]
    assert runs[1:] == [["tests/test_more.py"]]
    line["tests/test_arithmetic.py"] = 6
    (project / "tests/test_arithmetic.py").write_text("")
    assert chosen() == ["tests/test_more.py::test"], "the recent run counts, not the one before"
    (project / "src/nibt/core/arithmetic.py").write_text("")
    chosen()
    assert runs[2:] == [["tests/test_arithmetic.py"], ["tests/test_arithmetic.py", "tests/test_more.py"]]


@pytest.mark.slow
def test_run_kills_tested_mutants_and_reports_the_others(mutation: ModuleType, project: Path, tmp_path: Path) -> None:
    options = Namespace(
        into=tmp_path / "run", tests=["tests"], workers=0, only=["core"], sample=100, seed=0, seconds=60.0
    )
    results = mutation.run(options, project)
    by_line = {mutation.changed_lines(row["diff"])[0]: row for row in results}
    tested, unread, unused = (
        by_line[line] for line in ("return (first or 0) + second", "return value > 10", "return value * 3")
    )
    assert (tested["status"], tested["by"]) == ("killed", "tests/test_arithmetic.py::test_add")
    assert (unread["status"], unread["tests"]) == ("survived", 1)
    assert (unused["status"], unused["tests"], unused["by"]) == ("survived", 0, "no test runs it")
    assert (project / "src/nibt/core/arithmetic.py").read_text() == CODE
    before, after = mutation.changed_lines(unread["diff"])
    known = f'[[equivalent]]\nfile = "core/arithmetic.py"\nbefore = {before!r}\nafter = {after!r}\nreason = "a test"\n'
    (project / ".ci" / "mutants.toml").write_text(known)
    again = {mutation.changed_lines(row["diff"])[0]: row["status"] for row in mutation.run(options, project)}
    assert again[before] == "equivalent"
