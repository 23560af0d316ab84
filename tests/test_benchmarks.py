"""Tests of ``benchmarks/gpu.py`` and ``benchmarks/precision.py``: they run, and the page has what was measured."""

import csv
import subprocess
import sys

import pytest

from tests.helpers import ROOT

pytestmark = pytest.mark.slow

TABLE = ROOT / "docs" / "reference" / "results" / "precision.csv"
WITHOUT_ROUNDING = 1e-4
"""The largest difference from the same rounded weights in float32."""


def rows(text: str) -> list[list[str]]:
    """Return the cells of the rows of all tables, without heads."""
    lines = [line for line in text.splitlines() if line.startswith("|")]
    cells = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]
    rules = [place for place, row in enumerate(cells) if set("".join(row)) == {"-"}]
    return [row for place, row in enumerate(cells) if place not in rules and place + 1 not in rules]


def printed(*arguments: str) -> str:
    """Return what a script prints."""
    ran = subprocess.run([sys.executable, *arguments], cwd=ROOT, capture_output=True, text=True, check=False)
    assert ran.returncode == 0, ran.stderr
    return ran.stdout


def test_gpu_benchmark_runs_on_the_cpu() -> None:
    table = rows(printed("benchmarks/gpu.py", "--device", "cpu", "--sizes", "tiny", "--quick"))
    precisions = ("fp32", "tf32", "fp16", "bf16")
    assert [row[:3] for row in table] == [["tiny", name, size] for name in precisions for size in ("1", "4")]
    for row in table:
        forward, maps, ratio, files, memory = map(float, row[3:])
        assert min(forward, maps, files, memory) > 0
        assert ratio > 1


def test_precision_benchmark_and_its_page() -> None:
    """What remains beyond the rounding of the weights is below 1e-4 with the products that nibt computes."""
    lines = printed("benchmarks/precision.py", "--pairs", "2", "--only", "random CLIP").splitlines()
    cells = [line.split(", ") for line in lines if line.startswith("random CLIP")]
    table = [[model, ", ".join(rest[:-7]), *rest[-7:]] for model, *rest in cells]  # of a method with its products
    assert len(table) == 16, "two dtypes and sides, of nib with three kinds of products and of gae"
    with TABLE.open(encoding="utf-8", newline="") as file:
        page = list(csv.reader(file))[1:]
    assert {row[0] for row in page} == {"scenes", "lite", "random CLIP", "random SigLIP", "random OpenCLIP"}
    for row in (*table, *page):
        assert float(row[5]) >= float(row[4])
        if "," not in row[1]:
            assert float(row[8]) < WITHOUT_ROUNDING, row
