"""Tests of ``nibt.jobs.worker``."""

import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import nibt
from nibt.data.images import ImageInput
from nibt.datasets._records import RecordDataset
from nibt.jobs import worker as work
from nibt.jobs.job import SmallerBatch
from nibt.models.base import Model
from tests import tiny
from tests.job_pairs import CAPTIONS, COUNT, OPTIONS
from tests.processes import parts


def test_worker_records_an_unexpected_error_in_its_row(
    model: Model, job_table: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    own = work.explain_batch

    def failing(question: Any, ready: Any) -> Any:
        if any(pair.caption == CAPTIONS[1] for pair in ready.pairs):
            raise RuntimeError("no such kernel")
        return own(question, ready)

    monkeypatch.setattr(work, "explain_batch", failing)
    rows = list(nibt.batch(model, job_table, tmp_path, **OPTIONS).rows())
    failed = [row["row"] for row in rows if row["error"] == "unexpected RuntimeError: no such kernel"]
    assert failed == [item for item, caption in enumerate(CAPTIONS) if caption == CAPTIONS[1]]
    assert sum(row["error"] is None for row in rows) == COUNT - len(failed)


def test_worker_stops_if_no_row_can_be_explained(
    model: Model, job_table: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def failing(question: Any, ready: Any) -> Any:
        raise RuntimeError("no such kernel")

    monkeypatch.setattr(work, "explain_batch", failing)
    with pytest.raises(RuntimeError, match="no such kernel"):
        nibt.batch(model, job_table, tmp_path, **OPTIONS | {"chunk_size": 16})
    assert list(tmp_path.iterdir()) == []  # so that the corrected call can use the folder


def test_worker_gives_the_same_bits_without_reading_ahead(
    model: Model, job_table: Path, whole_job: nibt.Job, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(work, "read_ahead", lambda items, count: iter(items))
    nibt.batch(model, job_table, tmp_path, **OPTIONS)
    assert parts(tmp_path) == parts(whole_job.folder)


def test_batches_of_a_chunk_have_captions_of_similar_length(
    model: Model, job_table: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Rows are still written in their order, and none is lost."""
    own, batches = work.explain_batch, []

    def seen(question: Any, ready: Any) -> Any:
        batches.append([model.text.length(pair.caption) for pair in ready.pairs])
        return own(question, ready)

    monkeypatch.setattr(work, "explain_batch", seen)
    rows = list(nibt.batch(model, job_table, tmp_path, **OPTIONS | {"chunk_size": COUNT}).rows(["row", "caption"]))
    lengths = [length for batch in batches for length in batch]
    assert lengths == sorted(lengths)
    assert lengths != [model.text.length(caption) for caption in CAPTIONS]
    assert rows == [{"row": row, "caption": caption} for row, caption in enumerate(CAPTIONS)]


def test_worker_prepares_the_next_rows_meanwhile(
    model: Model, job_table: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """While the first batch waits to be explained, another thread reads a later one."""
    later, own, names = threading.Event(), work.explain_batch, set()

    def read(data: Any, record: Any) -> ImageInput:
        names.add(threading.current_thread().name)
        if record.row == 3:
            later.set()
        return tiny.image(seed=record.row)

    def waiting(question: Any, ready: Any) -> Any:
        assert later.wait(20), "nothing was read ahead"
        return own(question, ready)

    monkeypatch.setattr(RecordDataset, "load_image", read)
    monkeypatch.setattr(work, "explain_batch", waiting)
    assert not nibt.batch(model, job_table, tmp_path, **OPTIONS).manifest.errors
    assert all(name.startswith("nibt-ahead") for name in names)


@pytest.mark.slow
def test_worker_halves_the_batch_if_memory_runs_out(
    model: Model, job_table: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Three of eight rows fit into memory; the numbers are equal to 1e-5, and the manifest records the batch size."""
    options = {**OPTIONS, "batch_size": 8, "chunk_size": 8}
    wanted, own, sizes = nibt.batch(model, job_table, tmp_path / "wanted", **options), work.explain_batch, []

    def small(question: Any, ready: Any) -> Any:
        sizes.append(len(ready.pairs))
        if len(ready.pairs) > 3:
            raise torch.OutOfMemoryError("out of memory")
        return own(question, ready)

    monkeypatch.setattr(work, "explain_batch", small)
    job = nibt.batch(model, job_table, tmp_path / "found", **options)
    assert sizes == [8, 4, 2, 2, 2, 2, 2]
    assert job.manifest.smaller_batches == [SmallerBatch(chunk=0, batch_size=2)]
    assert not job.manifest.errors
    for actual, row in zip(job.rows(), wanted.rows(), strict=True):
        np.testing.assert_allclose(actual["grid"], row["grid"], rtol=0, atol=1e-5)
        length = min(len(actual["text_scores"]), len(row["text_scores"]))  # captions are padded to the longest
        assert actual["text_scores"][:length] == pytest.approx(row["text_scores"][:length], abs=1e-5)
        assert actual["similarity"] == pytest.approx(row["similarity"], abs=1e-5)
        assert [word["text"] for word in actual["words"]] == [word["text"] for word in row["words"]]


@pytest.mark.slow
def test_worker_records_an_image_that_does_not_fit_into_memory(
    model: Model, job_table: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    own = work.explain_batch

    def small(question: Any, ready: Any) -> Any:
        if any(pair.caption == CAPTIONS[2] for pair in ready.pairs):
            raise MemoryError
        return own(question, ready)

    monkeypatch.setattr(work, "explain_batch", small)
    rows = list(nibt.batch(model, job_table, tmp_path, **OPTIONS).rows())
    assert [row["row"] for row in rows if row["error"]] == [2, 6]
    assert "does not fit into memory" in rows[2]["error"]
