"""A method of another package is benchmarked by its name, as docs/guides/own_method.md shows."""

import os
import re
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

import pytest

from nibt.results.outputs import read_signature
from tests.helpers import ROOT


def blocks(page: str) -> dict[str, str]:
    """Return the code blocks of a page that stand for files, and its commands."""
    actual = re.findall(r"<!-- (?:file: )?(\S+) -->\n```\w+\n(.*?)```", page, re.DOTALL)
    return dict(actual)


@pytest.mark.slow
def test_benchmark_takes_a_method_of_another_package(tmp_path: Path) -> None:
    parts = blocks((ROOT / "docs" / "guides" / "own_method.md").read_text())
    commands = parts.pop("commands")
    assert "count = 6" in parts["plan.toml"]
    for name, text in parts.items():
        (tmp_path / name).write_text(text.replace("count = 6", "count = 2"))  # test_documents.py runs all six
    project = tomllib.loads(parts["pyproject.toml"])["project"]
    installed = tmp_path / "strangers_method-1.0.dist-info"  # what pip writes
    installed.mkdir()
    (installed / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {project['name']}\nVersion: 1.0\n")
    points = project["entry-points"]["nibt.methods"]
    (installed / "entry_points.txt").write_text("[nibt.methods]\n" + "\n".join(f"{a} = {b}" for a, b in points.items()))
    code = """
import shlex, sys
from nibt.cli import main
for line in sys.argv[1].splitlines():
    try:
        main(shlex.split(line)[1:])
    except SystemExit as left:
        assert not left.code, line
"""
    done = subprocess.run(
        [sys.executable, "-c", code, commands],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "PYTHONPATH": str(tmp_path), "OMP_NUM_THREADS": "1"},
    )
    assert done.returncode == 0, done.stderr
    assert re.search(r"^distance .* none: an example", done.stdout, re.MULTILINE)
    signature = read_signature(tmp_path / "cat.png")
    assert signature is not None
    data: Any = signature["method"]
    assert (data["name"], data["image"]["power"]) == ("distance", 2)
    assert re.search(r"^\| distance power=2 \| \d", (tmp_path / "RUN" / "report.md").read_text(), re.MULTILINE)
