"""Tests of ``nibt.jobs.job``: the folder of a finished job is a data set with a card."""

import re
import shutil
from pathlib import Path

import pytest
import yaml

import nibt
from nibt.errors import BadInput, WouldOverwrite
from nibt.jobs.job import card, write_card
from tests.helpers import Run
from tests.job_pairs import COUNT


@pytest.fixture
def job(whole_job: nibt.Job, tmp_path: Path) -> nibt.Job:
    """A copy of a finished job."""
    shutil.copytree(whole_job.folder, tmp_path / "job")
    return nibt.Job.open(tmp_path / "job")


def test_the_files_that_a_card_names_are_the_data_set(job: nibt.Job) -> None:
    datasets = pytest.importorskip("datasets")
    text = write_card(job)
    assert (job.folder / "README.md").read_text(encoding="utf-8") == text
    header = yaml.safe_load(text.split("---")[1])
    (config,) = header["configs"]
    rows = datasets.load_dataset("parquet", data_files=str(job.folder / config["data_files"]), split="train")
    assert len(rows) == COUNT
    assert re.findall(r"^\| `(\w+)` \|", text, re.M) == rows.column_names
    assert f"{COUNT} rows, {job.manifest.errors} of which failed" in text
    assert "`nib`" in text
    assert job.manifest.request["model"]["weights_hash"] in text
    assert job.check() == [], "a card is no part of the job's rows"


def test_a_card_names_what_the_target_compares_with(model: nibt.Model, job_table: Path, tmp_path: Path) -> None:
    assert "Target: `difference` against 'two dogs'." in card(
        nibt.batch(model, job_table, tmp_path / "job", "grad_cam", against="two dogs")
    )


def test_a_card_is_the_same_each_time_and_edits_are_kept(job: nibt.Job) -> None:
    assert write_card(job) == write_card(job)
    (job.folder / "README.md").write_text("my words")
    with pytest.raises(WouldOverwrite, match=r"README\.md was edited"):
        write_card(job)
    assert "my words" not in write_card(job, overwrite=True)


def test_a_link_or_a_folder_of_that_name_is_kept(job: nibt.Job) -> None:
    path = job.folder / "README.md"
    path.symlink_to("elsewhere.md")
    with pytest.raises(WouldOverwrite, match=r"README\.md was edited"):
        write_card(job)
    assert path.is_symlink()
    path.unlink()
    path.mkdir()
    with pytest.raises(WouldOverwrite, match=r"README\.md was edited"):
        write_card(job)


def test_a_job_without_rows_has_no_card(job: nibt.Job) -> None:
    shutil.rmtree(job.folder / "parts")
    with pytest.raises(BadInput, match="has no rows that a card could describe: check it with nibt show"):
        card(job)


def test_an_unfinished_job_has_no_card(job: nibt.Job) -> None:
    job.update(rows=None)
    with pytest.raises(BadInput, match="a card needs a finished job: run it again to resume it"):
        card(job)


def test_command_writes_the_card(job: nibt.Job, run: Run) -> None:
    code, out, err = run("show", str(job.folder))
    assert code == 0
    assert out.startswith("---\nconfigs:")
    assert "README.md; nibt show" in err
