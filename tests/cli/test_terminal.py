"""Tests of ``nibt.cli.terminal``."""

import io
import json
import sys

import pytest
from rich.table import Table

from nibt.cli.terminal import Terminal, complain, print_json, safe_streams, say


def ascii_output(monkeypatch: pytest.MonkeyPatch) -> io.BytesIO:
    """Let standard output take ASCII only, as under LC_ALL=C, and return what is written."""
    raw = io.BytesIO()
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(raw, "ascii", write_through=True))
    return raw


def test_what_an_encoding_lacks_is_escaped(monkeypatch: pytest.MonkeyPatch) -> None:
    written = ascii_output(monkeypatch)
    safe_streams()
    say("a \U0001f600 cat")
    say("über")
    Terminal().print("naïve")
    assert written.getvalue().split() == [b"a", rb"\U0001f600", b"cat", rb"\xfcber", rb"na\xefve"]


def test_json_stays_json_in_every_encoding(monkeypatch: pytest.MonkeyPatch) -> None:
    written = ascii_output(monkeypatch)
    print_json({"caption": "a \U0001f600 über \udcff"})
    assert json.loads(written.getvalue()) == {"caption": "a \U0001f600 über \udcff"}


def test_texts_do_not_control_the_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    say("a\x1b[2J\nb")
    complain("two\nlines\x07")
    table = Table("x\x1b]0;y")
    table.add_row("[/red]\x9b")
    Terminal(width=80).print(table)
    output = capsys.readouterr()
    assert output.out.startswith("a\\x1b[2J\nb\n")
    assert output.err == "nibt: two lines\\x07\n"
    assert r"x\x1b]0;y" in output.out
    assert r"[/red]\x9b" in output.out
    assert all(character.isprintable() or character == "\n" for character in output.out)
