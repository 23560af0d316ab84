"""Tests of ``nibt.jobs.rows``."""

import nibt
from nibt.data import parquet
from nibt.jobs.rows import schema
from tests import tiny
from tests.helpers import ROOT
from tests.job_pairs import COUNT


def test_rows_are_readable_by_other_tools(whole_job: nibt.Job) -> None:
    from pyarrow import dataset

    actual = dataset.dataset(whole_job.folder / "parts").to_table(columns=["row", "grid", "words"])
    assert sorted(actual["row"].to_pylist()) == list(range(COUNT))
    first = actual.to_pylist()[0]
    assert len({len(line) for line in first["grid"]}) == 1
    assert {"text", "score", "tokens"} == set(first["words"][0])
    assert whole_job.manifest.request["model"]["weights_hash"] == tiny.model("clip").weights_hash
    assert [row["row"] for row in whole_job.rows(["row"])] == list(range(COUNT))


def test_rows_have_the_documented_columns() -> None:
    text = (ROOT / "docs" / "guides" / "jobs.md").read_text()
    for name in schema(parquet.pyarrow()[0]).names:
        assert f"`{name}`" in text, name
