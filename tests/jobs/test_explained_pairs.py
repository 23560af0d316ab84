"""Tests of ``Job.explained_pairs``."""

import shutil
from pathlib import Path

import pytest
import torch

import nibt
from nibt.datasets.scenes import Scenes
from nibt.errors import BadInput, BadOption
from nibt.models.base import Model
from tests.job_pairs import CAPTIONS, COUNT


def test_pairs_of_a_job_have_their_images_and_explanations(whole_job: nibt.Job, job_images: Path) -> None:
    rows = whole_job.explained_pairs()
    assert [pair.caption for pair, _ in rows] == CAPTIONS
    for item, (pair, explanation) in enumerate(rows):
        assert pair.image.digest == explanation.image.image_hash
        assert explanation.caption == pair.caption
        assert torch.equal(explanation.grid, whole_job.explanation(item).grid)


def test_some_pairs_are_drawn_by_the_seed(whole_job: nibt.Job) -> None:
    def drawn(seed: int) -> list[str]:
        return [explanation.source for _, explanation in whole_job.explained_pairs(4, seed)]

    assert len(drawn(0)) == 4
    assert drawn(0) == drawn(0)
    assert any(drawn(seed) != drawn(0) for seed in range(1, 5))
    assert len(whole_job.explained_pairs(10 * COUNT)) == COUNT


def test_rows_that_failed_are_left_out(model: Model, job_images: Path, tmp_path: Path) -> None:
    table = tmp_path / "pairs.csv"
    table.write_text(f"image,caption\n{job_images / '0.png'},a cat\ngone.png,a cat\n{job_images / '1.png'},a dog\n")
    job = nibt.batch(model, table, tmp_path / "job", "gae")
    assert [pair.caption for pair, _ in job.explained_pairs()] == ["a cat", "a dog"]


def test_jobs_without_pairs_at_hand_are_refused(model: Model, tmp_path: Path) -> None:
    job = nibt.batch(model, Scenes(count=2), tmp_path / "memory", "gae")
    with pytest.raises(BadInput, match="from a data set in memory"):
        job.explained_pairs()
    job.update(rows=None)
    with pytest.raises(BadInput, match="is not finished: run it again to resume it"):
        job.explained_pairs()
    job.update(request={**job.manifest.request, "pairs": {"prompt": "prompt"}})
    with pytest.raises(BadInput, match="has answers to prompts"):
        job.explained_pairs()


def test_a_job_without_one_of_its_files_is_refused(whole_job: nibt.Job, tmp_path: Path) -> None:
    copied = nibt.Job(shutil.copytree(whole_job.folder, tmp_path / "job"))
    copied.chunks()[0][0].unlink()
    with pytest.raises(BadInput, match=rf"has \d+ of its {COUNT} rows: check it with nibt show --verify"):
        copied.explained_pairs()


def test_counts_of_pairs_are_checked(whole_job: nibt.Job) -> None:
    with pytest.raises(BadOption, match="count must be"):
        whole_job.explained_pairs(-1)
    with pytest.raises(BadOption, match="seed must be"):
        whole_job.explained_pairs(1, -1)
