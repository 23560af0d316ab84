"""Tests of ``benchmarks/zoo.py``: it passes, and the documents have what it wrote."""

import csv
import re
import subprocess
import sys

import open_clip
import pytest
from torch import nn

from benchmarks.models import released, tiny_families
from tests.helpers import ROOT

pytestmark = pytest.mark.slow

RESULTS = ROOT / "docs" / "reference" / "results"
ROWS = list(csv.DictReader((RESULTS / "zoo.csv").read_text(encoding="utf-8").splitlines()))
GROUPS = list(dict.fromkeys(row["group"] for row in ROWS))


@pytest.mark.parametrize("group", GROUPS)
def test_every_class_passes(group: str) -> None:
    command = [sys.executable, "benchmarks/zoo.py", "--only", f"{group} "]
    ran = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert ran.returncode == 0, ran.stdout[-3000:] + ran.stderr[-1000:]
    passed, tried = re.findall(r"^(\d+) of (\d+) small models", ran.stdout, re.MULTILINE)[0]
    assert passed == tried
    assert int(tried) == sum(row["group"] == group for row in ROWS), "run python benchmarks/zoo.py --write"


def test_table_has_every_class_and_configuration() -> None:
    """A class is there as the copy of a released model or, if none is known, as a builder makes it."""
    names, classes = {row["model"] for row in ROWS}, {row["class"] for row in ROWS}
    known = [released.facts(name) for name in released.names()]
    cut = {facts["name"] for facts in known if released.is_built(facts) and facts["use"] != "score"}
    assert cut | {*open_clip.list_models()} <= names
    families = {**tiny_families.FIRST, **tiny_families.FAMILIES}
    modules = [family().module for family in families.values()]
    for module in modules:  # of some classes a part is explained, such as the CLIP in a segmenter
        parts = {type(part).__name__ for part in module.modules()} if isinstance(module, nn.Module) else classes
        assert parts & classes, type(module).__name__


def test_page_of_released_models_has_every_file_of_facts() -> None:
    page = (RESULTS / "released.md").read_text(encoding="utf-8")
    for name in released.names():
        facts = released.facts(name)
        lines = [line for line in page.splitlines() if line.startswith(f"|`{facts['name']}`|")]
        expected = "verified" if released.is_built(facts) else "refused|not built"
        assert any(re.search(expected, line) for line in lines), lines


def test_the_page_of_models_lists_the_classes_of_the_table() -> None:
    text = (ROOT / "docs" / "reference" / "models.md").read_text(encoding="utf-8")
    (listed,) = re.findall(r"<!-- zoo -->\n(.*?)\n<!-- /zoo -->", text, re.DOTALL)
    others = ("Generators", "OpenCLIP", "Wrappers, around CLIP")  # named in words
    assert set(re.findall(r"`(\w+)`", listed)) == {row["class"] for row in ROWS if row["group"] not in others}
