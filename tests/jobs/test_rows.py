"""Tests of ``nibt.jobs.rows``."""

from pathlib import Path

import numpy as np

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
    assert {"text", "score", "tokens", "error"} == set(first["words"][0])
    assert whole_job.manifest.request["model"]["weights_hash"] == tiny.model("clip").weights_hash
    assert [row["row"] for row in whole_job.rows(["row"])] == list(range(COUNT))


def test_rows_have_the_documented_columns() -> None:
    text = (ROOT / "docs" / "guides" / "jobs.md").read_text()
    for name in schema(parquet.pyarrow()[0]).names:
        assert f"`{name}`" in text, name


def test_rows_of_estimates_have_their_errors(tmp_path: Path) -> None:
    table = tmp_path / "pairs.csv"
    tiny.image().pil_image.save(tmp_path / "one.png")
    table.write_text("image,caption\none.png,a red cat\n")
    job = nibt.batch(tiny.model("clip"), table, tmp_path / "job", method="shapley", budget=100)
    row = next(iter(job.rows()))
    explanation = nibt.explain(tiny.model("clip"), tmp_path / "one.png", "a red cat", "shapley", budget=100)
    assert np.allclose(row["grid_error"], explanation.image.error, rtol=1e-3, atol=1e-6)
    assert (row["image_evaluations"], row["text_evaluations"]) == (101, 7)
