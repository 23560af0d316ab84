"""Tests of ``nibt.report.notebook``."""

import re
import subprocess
import sys
from html import unescape
from importlib import import_module
from io import BytesIO
from types import SimpleNamespace
from typing import Any

import pytest
from PIL import Image

import nibt
from nibt.errors import Unsupported
from nibt.report.displays import TYPES, register
from nibt.report.html.view import Panel
from nibt.results.explanation import change_image
from nibt.results.records import Measurement
from tests.answers import PEAK, WHOLE, answer, two_captions
from tests.helpers import ROOT, check_page, explain_with_table

formatters = pytest.importorskip("IPython.core.formatters", reason="needs IPython: pip install -e '.[dev]'")

ROWS = [
    Measurement(0, "image", "deletion", 0.25),
    Measurement(1, "image", "deletion", 0.75),
    Measurement(0, "text", "<energy>", float("nan")),
]


class Shell(SimpleNamespace):
    """The part of an IPython shell that formats values."""

    def shown(self, value: Any) -> dict[str, Any]:
        return self.display_formatter.format(value)[0]


@pytest.fixture
def shell() -> Shell:
    """A shell in which nibt was imported."""
    shell = Shell(display_formatter=formatters.DisplayFormatter())
    register(shell)
    return shell


def framed(answer_: str) -> str:
    """Return the page in a frame, which may only run its own scripts."""
    (sandbox,) = re.findall(r'sandbox="([^"]*)"', answer_)
    assert sandbox == "allow-scripts"
    (inside,) = re.findall(r'srcdoc="([^"]*)"', answer_)
    return check_page(unescape(inside))


@pytest.mark.slow
def test_results_are_shown_as_pages(shell: Shell) -> None:
    answer_, table = explain_with_table()
    two = two_captions(answer_)
    for value in (answer_, table, two):
        actual = shell.shown(value)
        assert "nibt-view" in framed(actual["text/html"])
        assert Image.open(BytesIO(actual["image/png"])).width > 400
    assert "nibt-view" in framed(shell.shown(Panel(answer_, table))["text/html"])
    rows = framed(shell.shown(ROWS)["text/html"])
    assert "<td>0.5</td><td>2</td>" in rows
    assert "<td>&lt;energy&gt;</td><td>text</td><td>-</td><td>0</td>" in rows
    for other in ([], [1, 2], "text", [ROWS[0], None], ROWS[0]):
        assert set(shell.shown(other)) == {"text/plain"}


def test_results_are_registered_by_names_that_exist() -> None:
    for module, name in TYPES:
        kind = getattr(import_module(module), name)
        assert (kind.__module__, kind.__name__) == (module, name)


def test_registration_keeps_the_formatters_of_the_user() -> None:
    shell = Shell(display_formatter=formatters.DisplayFormatter())
    shell.display_formatter.formatters["text/html"].for_type(list, lambda value: f"<b>{len(value)}</b>")
    register(shell)
    register(shell)
    assert shell.shown(ROWS)["text/html"] == "<b>3</b>"
    assert set(shell.shown(answer(PEAK, (90, 90), WHOLE))) == {"text/plain", "text/html", "image/png"}


SESSION = """
import sys
from IPython.core.interactiveshell import InteractiveShell
shell = InteractiveShell.instance()
shell.run_cell("import nibt").raise_error()
assert not {"torch", "PIL", "nibt.report.notebook"} & set(sys.modules), "the import draws nothing"
shell.display_formatter.format([1, 2])
assert "torch" not in sys.modules, "other values import nothing"
from tests.answers import PEAK, WHOLE, answer
shown, _ = shell.display_formatter.format(answer(PEAK, (90, 90), WHOLE))
assert set(shown) == {"text/plain", "text/html", "image/png"}
"""


@pytest.mark.slow
def test_import_in_a_shell_is_enough() -> None:
    subprocess.run([sys.executable, "-c", SESSION], cwd=ROOT, check=True)


def test_answers_without_an_image_are_shown_as_text(shell: Shell) -> None:
    answer_ = answer(PEAK, (90, 90), WHOLE)
    assert set(shell.shown(change_image(answer_, input=None))) == {"text/plain"}


def test_show_needs_ipython(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "IPython.display", None)
    with pytest.raises(Unsupported, match=r"pip install jupyterlab, or write a file with nibt\.save"):
        nibt.show(answer(PEAK, (90, 90), WHOLE))
