"""Tests of ``benchmarks/zoo.py``: it passes, and the documents have what it wrote."""

import csv
import re
import subprocess
import sys

import open_clip
import pytest

from benchmarks.models import tiny_families, tiny_vision_language
from tests.helpers import ROOT

pytestmark = pytest.mark.slow

RESULTS = ROOT / "docs" / "reference" / "results"
ROWS = list(csv.DictReader((RESULTS / "zoo.csv").read_text(encoding="utf-8").splitlines()))


@pytest.mark.slow
def test_every_class_passes() -> None:
    ran = subprocess.run([sys.executable, "benchmarks/zoo.py"], cwd=ROOT, capture_output=True, text=True, check=False)
    assert ran.returncode == 0, ran.stdout[-3000:] + ran.stderr[-1000:]
    passed, tried = re.findall(r"^(\d+) of (\d+) small models", ran.stdout, re.MULTILINE)[0]
    assert passed == tried
    assert int(tried) == len(ROWS), "run python benchmarks/zoo.py --write"


def test_table_has_every_class_and_configuration() -> None:
    names = {row["model"] for row in ROWS}
    vision_language = {*tiny_vision_language.EMBEDDERS, *tiny_vision_language.LATE, *tiny_vision_language.GENERATORS}
    assert {*tiny_families.FIRST, *tiny_families.FAMILIES, *vision_language, *open_clip.list_models()} <= names


def test_the_page_of_models_lists_the_classes_of_the_table() -> None:
    text = (ROOT / "docs" / "reference" / "models.md").read_text(encoding="utf-8")
    (listed,) = re.findall(r"<!-- zoo -->\n(.*?)\n<!-- /zoo -->", text, re.DOTALL)
    others = ("Generators", "OpenCLIP", "Wrappers, around CLIP")  # named in words
    assert set(re.findall(r"`(\w+)`", listed)) == {row["class"] for row in ROWS if row["group"] not in others}
