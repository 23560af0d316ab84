"""Tests of ``nibt.report.notebook``."""

import re
import sys
from dataclasses import replace
from html import unescape
from io import BytesIO
from types import SimpleNamespace
from typing import Any

import pytest
from IPython.core.formatters import DisplayFormatter
from PIL import Image

import nibt
from nibt.errors import Unsupported
from nibt.report.html.view import Panel
from nibt.results.explanation import Comparison
from nibt.results.measurement import Measurement
from tests.answers import BETWEEN, PEAK, WHOLE, answer
from tests.helpers import check_page, explain_with_table

ROWS = [
    Measurement(0, "image", "deletion", 0.25),
    Measurement(1, "image", "deletion", 0.75),
    Measurement(0, "text", "<energy>", float("nan")),
]


class Shell(SimpleNamespace):
    """The parts of IPython that an extension uses."""

    __hash__ = object.__hash__  # pyright: ignore

    def shown(self, value: Any) -> dict[str, Any]:
        return self.display_formatter.format(value)[0]


@pytest.fixture
def shell() -> Shell:
    return Shell(display_formatter=DisplayFormatter())


def framed(answer_: str) -> str:
    """Return the page in a frame, which may only run its own scripts."""
    (sandbox,) = re.findall(r'sandbox="([^"]*)"', answer_)
    assert sandbox == "allow-scripts"
    (inside,) = re.findall(r'srcdoc="([^"]*)"', answer_)
    return check_page(unescape(inside))


def test_extension_shows_answers_as_pages_until_unloaded(shell: Shell) -> None:
    answer_, table = explain_with_table()
    two = Comparison(
        replace(answer_.text, caption="a"),
        replace(answer_.text, caption="b"),
        0.5,
        BETWEEN,
        answer_.method,
        answer_.model,
        {},
    )
    mine = shell.display_formatter.formatters["text/html"]
    mine.for_type(Measurement, lambda row: "mine")
    before = {mime: dict(one.type_printers) for mime, one in shell.display_formatter.formatters.items()}
    assert set(shell.shown(answer_)) == {"text/plain"}
    nibt.load_ipython_extension(shell)
    nibt.load_ipython_extension(shell)  # loading twice has no further effect
    for value in (answer_, table, two):
        actual = shell.shown(value)
        assert "nibt-view" in framed(actual["text/html"])
        assert Image.open(BytesIO(actual["image/png"])).width > 400
    assert "nibt-view" in framed(shell.shown(Panel(answer_, table))["text/html"])
    rows = framed(shell.shown(ROWS)["text/html"])
    assert "<td>0.5</td><td>2</td>" in rows
    assert "<td>&lt;energy&gt;</td><td>text</td><td>-</td><td>0</td>" in rows
    for other in ([], [1, 2], "text", [ROWS[0], None]):
        assert set(shell.shown(other)) == {"text/plain"}
    nibt.unload_ipython_extension(shell)
    assert {mime: dict(one.type_printers) for mime, one in shell.display_formatter.formatters.items()} == before


def test_answers_without_an_image_are_shown_as_text(shell: Shell) -> None:
    nibt.load_ipython_extension(shell)
    answer_ = answer(PEAK, (90, 90), WHOLE)
    assert set(shell.shown(replace(answer_, image=replace(answer_.image, input=None)))) == {"text/plain"}


def test_show_needs_ipython(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "IPython.display", None)
    with pytest.raises(Unsupported, match=r"pip install jupyterlab, or write a file with nibt\.write_page"):
        nibt.show(answer(PEAK, (90, 90), WHOLE))
