"""Tests of ``nibt.evaluation.bench.cell``."""

from pathlib import Path
from typing import Any

import pyarrow.parquet
import pytest

import nibt
from nibt.errors import BadInput, WouldOverwrite
from nibt.evaluation.bench.cell import read_rows


def test_a_file_that_was_replaced_is_refused_where_it_is_read(tmp_path: Path, plan: dict[str, Any]) -> None:
    """A valid file with another value under the name of a chunk is not an answer of nibt."""
    plan |= {"methods": ["ones"], "metrics": ["special_token_share"]}
    run = nibt.benchmark(plan, tmp_path / "run")
    (path, *_), *_ = run.files().values()
    table = read_rows([path])
    pyarrow.parquet.write_table(table.set_column(16, "value", [[0.75] * len(table)]), path)
    with pytest.raises(BadInput, match=f"{path.name} was changed after it was written"):
        run.table()
    with pytest.raises(WouldOverwrite, match="move it away, and repeat the call"):
        nibt.benchmark(plan, tmp_path / "run")
    assert path.exists()
    path.unlink()
    assert nibt.benchmark(plan, tmp_path / "run").table()["item"].to_pylist() == run.table()["item"].to_pylist()
