"""Tests of ``nibt.cli.tables``."""

import csv
import io

import pytest

from tests.helpers import Run


def test_tables_compares_methods(run: Run) -> None:
    arguments = ("tables", "scenes", "-m", "scenes", "--count", 2, "--metric", "noun_energy", "--metric", "noun_mass")
    methods = ("--method", "occlusion", "--method", "banzhaf budget=8")
    code, out, err = run(*arguments, *methods)
    assert code == 0, err
    lines = [line.split(" | ") for line in out.splitlines() if line.startswith("|")]
    assert lines[0][0] == "| method"
    assert lines[0][1:3] == ["noun_energy (higher)", "noun_mass (higher)"]
    assert [line[0] for line in lines[2:]] == ["| occlusion", "| banzhaf budget=8"]
    code, latex, _ = run(*arguments, *methods, "--format", "latex")
    assert code == 0
    assert r"\toprule" in latex
    assert r"noun\_energy" in latex
    code, values, _ = run(*arguments, *methods, "--format", "csv", "-q")
    rows = list(csv.DictReader(io.StringIO(values)))
    assert len(rows) == 8
    means = [float(row["value"]) for row in rows if row["method"] == "occlusion" and row["metric"] == "noun_mass"]
    assert f"{sum(means) / 2:.3f}" in out


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--method", "banzaf"), "Did you mean 'banzhaf'"),
        (("--method", "banzhaf budget"), "options of a method must be name=value"),
        (("--method", "banzhaf budgets=3"), "budgets"),
        (("--metric", "noun_mas"), "Did you mean 'noun_mass'"),
        (("--format", "word"), "--format must be one of markdown, latex, csv"),
        (("--count", 0), "--count must be at least 1"),
    ],
)
def test_tables_refuses_bad_options(run: Run, options: tuple[object, ...], message: str) -> None:
    code, _, err = run("tables", "scenes", "-m", "scenes", *options)
    assert code == 2
    assert message in err


def test_tables_asks_for_the_pictures_of_a_grid_and_counts_one_pair(run: Run) -> None:
    code, _, err = run("tables", "grid:", "-m", "scenes")
    assert (code, "give grid:NAME" in err) == (2, True)
    code, out, err = run(
        "tables", "scenes", "-m", "scenes", "--count", 1, "--method", "occlusion", "--metric", "noun_mass"
    )
    assert code == 0, err
    assert "1 pair\n" in out
