"""Tests of ``nibt.io``."""

import json
from pathlib import Path

import pytest

from nibt.io import load_json, read_text

MARK = b"\xef\xbb\xbf"


def test_a_byte_order_mark_is_no_part_of_a_text(tmp_path: Path) -> None:
    (tmp_path / "x.txt").write_bytes(MARK + "cat\nüber".encode())
    assert read_text(tmp_path / "x.txt") == "cat\nüber"
    (tmp_path / "x.json").write_bytes(MARK + b'{"a": 1}')
    assert load_json(tmp_path / "x.json") == load_json('{"a": 1}') == {"a": 1}


def test_bad_text_and_deep_json_are_value_errors(tmp_path: Path) -> None:
    (tmp_path / "x.txt").write_bytes(b"caf\xe9")
    with pytest.raises(ValueError, match="utf-8"):
        read_text(tmp_path / "x.txt")
    with pytest.raises(ValueError, match="nested too deeply"):
        load_json("[" * 100_000)
    with pytest.raises(json.JSONDecodeError):
        load_json("{")
