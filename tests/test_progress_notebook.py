"""Tests of ``nibt.progress`` in a notebook, which a kernel of Jupyter runs."""

import re
from pathlib import Path
from typing import Any

import pytest

pytestmark = pytest.mark.slow

SETUP = """
import time
import nibt
from nibt.progress import Progress, report, reporter, report_stage


def work(items, seconds, on_progress=None, inner=0):
    shown = reporter(on_progress)
    for item in range(items):
        for step in range(inner):
            time.sleep(seconds)
            report(step + 1, inner)
        work_inside()
        time.sleep(seconds)
        shown(Progress(item + 1, items, "a stage"))


def work_inside():
    reporter(None)(Progress(1, 1))
"""


@pytest.fixture(scope="module")
def run() -> Any:
    """Run cells in a kernel, and return what each wrote to standard error."""
    nbformat = pytest.importorskip("nbformat", reason="needs nbformat: pip install -e '.[dev]'")
    client = pytest.importorskip("nbclient", reason="needs nbclient: pip install -e '.[dev]'")

    def run(*cells: str) -> list[str]:
        book = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(source) for source in (SETUP, *cells)])
        client.NotebookClient(book, timeout=300, kernel_name="python3", allow_errors=True).execute()
        return [_stderr(cell) for cell in book.cells[1:]]

    return run


def _stderr(cell: Any) -> str:
    return "".join(output.text for output in cell.outputs if output.get("name") == "stderr")


def test_long_calls_show_a_bar_and_short_ones_nothing(run: Any) -> None:
    long, short, given, inner, failed, again = run(
        "work(4, 0.6)",
        "work(4, 0.01)",
        "seen = []\nwork(4, 0.6, seen.append)\nassert len(seen) == 4, seen",
        "work(1, 0.3, inner=9)",
        "work(3, 0.6)\nwork(3, 0.6)\nraise ValueError",
        "work(3, 0.6)\nprint(nibt.progress.LISTENER.get() is None)",
    )
    assert "3 of 4, a stage" in long
    assert "nibt:  75%" in long
    assert long.endswith("\r"), "the bar is cleared"
    assert (short, given) == ("", ""), "and a call with its own on_progress shows nothing, nor do calls inside it"
    assert re.search(r"nibt: +\d+%.*step [5-9] of 9", inner)
    assert failed.count("2 of 3") == 2, "two calls of a cell"
    assert "2 of 3" in again, "after an error, too"


def test_explanations_show_a_bar(run: Any, tmp_path: Path) -> None:
    (text,) = run(
        'names = ["sample:scene"] * 60\n'
        'explanations = nibt.explain("scenes", names, ["a cat"] * 60, "nib", views=3, steps=16, batch_size=1)'
    )
    assert re.search(r"nibt: +\d+%.*\d+ of 60 \[", text), text
    assert "Traceback" not in text
