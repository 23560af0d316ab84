"""Tests of ``benchmarks/zoo.py``: it passes, and the documents have what it wrote."""

import re
import subprocess
import sys

import open_clip
import pytest

from benchmarks import tiny_families, tiny_vision_language
from tests.helpers import ROOT

pytestmark = pytest.mark.slow

TABLE = (ROOT / "docs" / "reference" / "results" / "zoo.md").read_text(encoding="utf-8")
ROWS = [[cell.strip(" `") for cell in line.strip("|").split("|")] for line in TABLE.splitlines() if line[:2] == "| "]


@pytest.mark.slow
def test_every_class_passes() -> None:
    ran = subprocess.run([sys.executable, "benchmarks/zoo.py"], cwd=ROOT, capture_output=True, text=True, check=False)
    assert ran.returncode == 0, ran.stdout[-3000:] + ran.stderr[-1000:]
    passed, tried = re.findall(r"^(\d+) of (\d+) small models", ran.stdout, re.MULTILINE)[0]
    assert passed == tried
    assert f"{passed} of {tried} small models" in TABLE, "run python benchmarks/zoo.py --write"


def test_table_has_every_class_and_configuration() -> None:
    names = {row[0] for row in ROWS}
    vision_language = {*tiny_vision_language.EMBEDDERS, *tiny_vision_language.LATE}
    assert {*tiny_families.FIRST, *tiny_families.FAMILIES, *vision_language, *open_clip.list_models()} <= names


@pytest.mark.parametrize("page", ["README.md", "docs/reference/models.md"])
def test_pages_list_the_classes_of_the_table(page: str) -> None:
    (listed,) = re.findall(r"<!-- zoo -->\n(.*?)\n<!-- /zoo -->", (ROOT / page).read_text(encoding="utf-8"), re.DOTALL)
    transformers = TABLE.partition("## Hugging Face Transformers")[2].partition("## OpenCLIP")[0]
    assert set(re.findall(r"`(\w+)`", listed)) == set(re.findall(r"`(\w+)`", transformers))
    assert listed.partition("`. ")[2] in TABLE
