"""Tests of ``nibt.io``."""

import json
from pathlib import Path

import pytest

from nibt.io import all_or_none, atomic_write, load_json, read_text

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


def test_files_of_a_block_are_written_all_or_none(tmp_path: Path) -> None:
    paths = [tmp_path / "a.txt", tmp_path / "b.txt"]
    paths[0].write_text("before")

    def write_all(fails: bool) -> None:
        with all_or_none():
            for path in paths:
                with atomic_write(path) as draft:
                    draft.write_text("new")
            assert paths[0].read_text() == "before"
            if fails:
                raise ValueError("the last one")

    with pytest.raises(ValueError, match="the last one"):
        write_all(fails=True)
    assert {path.name: path.read_text() for path in tmp_path.iterdir()} == {"a.txt": "before"}
    write_all(fails=False)
    assert {path.name: path.read_text() for path in tmp_path.iterdir()} == {"a.txt": "new", "b.txt": "new"}
