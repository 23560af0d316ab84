"""Tests of ``nibt.evaluation.bench.store``."""

import os
from pathlib import Path
from typing import Any, get_type_hints

import pyarrow.parquet
import pytest

from nibt.errors import BadInput, WouldOverwrite
from nibt.evaluation.bench.store import Row, Store

NAME = "a" * 32
DEFAULTS: dict[Any, Any] = {str: "x", int: 1, float: 0.5, list[float]: []}


def row(value: float) -> Any:
    return {name: DEFAULTS[kind] for name, kind in get_type_hints(Row).items()} | {"value": value}


def test_a_part_that_was_replaced_is_refused_where_it_is_read(tmp_path: Path) -> None:
    """A valid file with another value under the name of a part is not an answer of nibt."""
    store = Store(tmp_path)
    store.add(NAME, [row(0.25)])
    assert store.names() == {NAME}
    assert store.table([NAME, "b" * 32])["value"].to_pylist() == [0.25]
    (path,) = tmp_path.iterdir()
    pyarrow.parquet.write_table(store.table([NAME]).set_column(16, "value", [[0.75]]), path)
    with pytest.raises(BadInput, match=f"{path.name} was changed after it was written"):
        store.table([NAME])
    with pytest.raises(WouldOverwrite, match="move it away, and resume the run"):
        store.repair()
    assert path.exists()


def test_only_old_drafts_of_parts_are_removed(tmp_path: Path) -> None:
    drafts = [f".{NAME}-{'0' * 16}.1-{number}-3.parquet" for number in (1, 2)]
    others = [".mine.parquet", f".{NAME}.parquet", f".{NAME}-x.1-2-3.parquet"]
    for name in (*drafts, *others):
        (tmp_path / name).write_bytes(b"x")
    for name in (drafts[0], *others):
        os.utime(tmp_path / name, (0, 0))
    Store(tmp_path).repair()
    assert {path.name for path in tmp_path.iterdir()} == {drafts[1], *others}
