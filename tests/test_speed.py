"""Compares the ratios of ``benchmarks/speed.py`` with those of the last measurement, in its CSV file."""

import csv
import subprocess
import sys

import pytest

from tests.helpers import ROOT

pytestmark = pytest.mark.slow

TABLE = ROOT / "benchmarks" / "speed.csv"
LARGEST = {"work": 1.01, "audit": 1.01, "start": 1.25, "saving": 1.3}
"""The largest ratio to the last measurement: work is counted, and times vary."""


def last(measured: str) -> dict[str, float]:
    with TABLE.open(encoding="utf-8", newline="") as file:
        return {row["name"]: float(row["ratio"]) for row in csv.DictReader(file) if row["measured"] == measured}


@pytest.mark.parametrize("measured", LARGEST)
def test_nothing_became_slower(measured: str) -> None:
    """If a cost was changed by choice, measure again with ``benchmarks/speed.py --write``."""
    arguments = ["benchmarks/speed.py", measured, "--rounds", "3"]
    ran = subprocess.run([sys.executable, *arguments], cwd=ROOT, capture_output=True, text=True, check=False)
    assert ran.returncode == 0, ran.stderr

    prefix = f"{measured}, "
    lines = [line.removeprefix(prefix) for line in ran.stdout.splitlines() if line.startswith(prefix)]
    now = {name: float(ratio) for name, _, ratio in (line.rpartition(", ") for line in lines)}
    before = last(measured)

    assert now.keys() == before.keys()
    slower = {name: (before[name], ratio) for name, ratio in now.items() if ratio > LARGEST[measured] * before[name]}
    assert not slower
