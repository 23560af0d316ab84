"""Tests of ``benchmarks/gpu.py`` and ``benchmarks/precision.py``: they run, and the page has what was measured."""

import subprocess
import sys

import pytest

from tests.helpers import ROOT

pytestmark = pytest.mark.slow

PAGE = ROOT / "docs" / "reference" / "results" / "precision.md"
WITHOUT_ROUNDING = 1e-4
"""The largest difference from the same rounded weights in float32."""


def rows(text: str) -> list[list[str]]:
    """Return the cells of the rows of all tables, without heads."""
    lines = [line for line in text.splitlines() if line.startswith("|")]
    cells = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]
    rules = [place for place, row in enumerate(cells) if set("".join(row)) == {"-"}]
    return [row for place, row in enumerate(cells) if place not in rules and place + 1 not in rules]


def printed(*arguments: str) -> list[list[str]]:
    """Return the rows that a script prints."""
    ran = subprocess.run([sys.executable, *arguments], cwd=ROOT, capture_output=True, text=True, check=False)
    assert ran.returncode == 0, ran.stderr
    return rows(ran.stdout)


def test_gpu_benchmark_runs_on_the_cpu() -> None:
    table = printed("benchmarks/gpu.py", "--device", "cpu", "--sizes", "tiny", "--quick")
    precisions = ("fp32", "tf32", "fp16", "bf16")
    assert [row[:3] for row in table] == [["tiny", name, size] for name in precisions for size in ("1", "4")]
    for row in table:
        forward, maps, ratio, files, memory = map(float, row[3:])
        assert min(forward, maps, files, memory) > 0
        assert ratio > 1


def test_precision_benchmark_and_its_page() -> None:
    """What remains beyond the rounding of the weights is below 1e-4 with the products that nibt computes."""
    table = printed("benchmarks/precision.py", "--pairs", "2", "--only", "random CLIP")
    assert len(table) == 16, "two dtypes and sides, of nib with three kinds of products and of gae"
    models = {"scenes", "lite", "random CLIP", "random SigLIP", "random OpenCLIP"}
    page = [row for row in rows(PAGE.read_text()) if row[0] in models]
    assert {row[0] for row in page} == models
    for row in (*table, *page):
        assert float(row[5]) >= float(row[4])
        if "," not in row[1]:
            assert float(row[8]) < WITHOUT_ROUNDING, row
