"""Tests of ``nibt.io.one_line``: no text stops or controls what prints, draws or writes it."""

import json
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

import nibt
from nibt.cli.console import show
from nibt.io import one_line
from nibt.report.colors import DEFAULT
from nibt.report.html.view import page
from nibt.results.base import as_text
from nibt.results.explanation import Explanation, Ranked, change_image
from tests.answers import PEAK, WHOLE, answer

ANY_TEXT = st.text(st.characters(), min_size=1, max_size=12)
"""Any characters: control characters, marks of direction, and halves of pairs, which are bytes of a name of a file."""


def with_text(text: str) -> Explanation:
    """Return an explanation with a text wherever one may come from a user."""
    shown = answer(PEAK, (90, 90), WHOLE, f"a {text}")
    shown = change_image(shown, source=text)
    score = {**shown.target, "name": "difference", "options": {"against": [text]}}
    return replace(
        shown,
        warnings=(text,),
        ranking=(Ranked(text, 0.1, 0.9, 0),),
        target=score,
        model={**shown.model, "id": text},
    )


@pytest.mark.slow
@given(ANY_TEXT)
def test_one_line_is_printable_and_keeps_what_is(text: str) -> None:
    line = one_line(text)
    assert all(character.isprintable() or character in "\u200c\u200d" for character in line)
    assert one_line(line) == line
    if text.isprintable():
        assert line == text


@settings(max_examples=8, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(text=ANY_TEXT)
@example(text="[/red]\x1b]0;x\x07\n\r\u2028\u202e\udcff\x9b2J")
def test_every_output_takes_any_text(text: str, capsys: Any) -> None:
    shown = with_text(text)
    assert nibt.draw(shown).size[0] > 0
    assert isinstance(json.loads(as_text(shown.to_json()).encode()), dict)
    page(shown).encode()
    show([shown], DEFAULT)
    out = capsys.readouterr().out
    assert all(character.isprintable() or character in "\n\u200c\u200d" for character in out)


@pytest.mark.parametrize("text", ["[/red]cat", "[bold]cat[/bold]", ":cat:"])
def test_texts_have_no_markup(text: str, capsys: Any) -> None:
    show([with_text(text)], DEFAULT)
    assert text in capsys.readouterr().out
