"""Tests of ``nibt.jobs.shards``, by public calls."""

import json
import shutil
from pathlib import Path

import pytest
from filelock import FileLock

import nibt
from nibt.errors import BadInput, BadOption, OtherRequest
from nibt.models.base import Model
from tests.helpers import Run
from tests.job_pairs import COUNT, OPTIONS
from tests.processes import CHUNK


def of_shard(model: Model, table: Path, folder: Path, shard: str | None, **options: object) -> nibt.Job:
    return nibt.batch(model, table, folder, shard=shard, **{**OPTIONS, "chunk_size": CHUNK, **options})


def files(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in (folder / "parts").iterdir()}


def test_joined_shards_have_the_files_of_the_whole_job(
    model: Model, job_table: Path, whole_job: nibt.Job, tmp_path: Path
) -> None:
    folder = tmp_path / "job"
    rows = 0
    for number in (3, 1, 2):
        shard = of_shard(model, job_table, folder, f"{number}/3")
        assert shard.folder == folder / "shards" / f"{number}-of-3"
        assert not shard.check()
        assert {chunk % 3 for chunk in shard.chunks()} <= {number - 1}
        assert shard.manifest.rows == COUNT, "the rows of the whole job, in which they are numbered"
        rows += shard.tally()["rows"]

    assert rows == COUNT
    with pytest.raises(BadInput, match=r"has shards only: join them by nibt batch PAIRS --out .*, without --shard"):
        nibt.Job.open(folder)

    joined = of_shard(model, job_table, folder, None)
    assert not joined.check()
    assert files(folder) == files(whole_job.folder)
    assert not (folder / "shards").exists()
    assert len(joined.manifest.sessions) == 4
    assert joined.manifest.shard is None


@pytest.mark.slow
def test_what_shards_lack_is_explained_when_they_are_joined(
    model: Model, job_table: Path, whole_job: nibt.Job, tmp_path: Path
) -> None:
    of_shard(model, job_table, tmp_path / "job", "2/3")
    joined = of_shard(model, job_table, tmp_path / "job", None)
    assert not joined.check()
    assert files(joined.folder) == files(whole_job.folder)


@pytest.mark.slow
def test_a_shard_goes_on_after_it_was_stopped(model: Model, job_table: Path, tmp_path: Path) -> None:
    shard = of_shard(model, job_table, tmp_path / "job", "1/2")
    before = files(shard.folder)
    first = next(iter(shard.chunks().values()))[0]
    first.unlink()
    again = of_shard(model, job_table, tmp_path / "job", "1/2")
    assert files(again.folder) == before


def test_more_shards_than_chunks_leave_some_without_rows(model: Model, job_table: Path, tmp_path: Path) -> None:
    shard = of_shard(model, job_table, tmp_path / "job", "1000/1000")
    assert shard.tally()["rows"] == 0
    assert not shard.check()


def test_a_shard_states_which_rows_it_has(model: Model, job_table: Path, tmp_path: Path) -> None:
    shard = of_shard(model, job_table, tmp_path / "job", "2/2")
    rows = shard.tally()["rows"]
    assert 0 < rows < COUNT
    assert f"{rows} of {COUNT} rows in shard 2 of 2, 0 failed" in repr(shard)
    with pytest.raises(BadOption, match=r"there is no row 0 in '.*2-of-2': it is in shard 1 of 2"):
        shard.explanation(0)
    with pytest.raises(BadOption, match=r"there is no row 1000 in '.*2-of-2': .* of its 10 rows are stored"):
        shard.explanation(1000)
    with pytest.raises(BadInput, match=r"2-of-2' is a shard: join the shards \(nibt batch without --shard\)"):
        shard.explained_pairs()

    empty = of_shard(model, job_table, tmp_path / "job", "1000/1000")
    assert f"0 of {COUNT} rows in shard 1000 of 1000" in repr(empty)


def test_shards_without_rows_are_joined(model: Model, job_table: Path, whole_job: nibt.Job, tmp_path: Path) -> None:
    of_shard(model, job_table, tmp_path / "job", "1000/1000")
    killed = of_shard(model, job_table, tmp_path / "job", "1/1000")
    for path, *_ in killed.chunks().values():
        path.unlink()
    killed.update(rows=None, sessions=[])

    joined = of_shard(model, job_table, tmp_path / "job", None)
    assert not joined.check()
    assert files(joined.folder) == files(whole_job.folder)
    assert not (tmp_path / "job" / "shards").exists()


@pytest.mark.parametrize("options", [{"steps": 3}, {"chunk_size": CHUNK + 1}])
def test_a_shard_of_another_request_is_named(
    options: dict[str, int], model: Model, job_table: Path, whole_job: nibt.Job, tmp_path: Path
) -> None:
    of_shard(model, job_table, tmp_path / "job", "1/2")
    other = of_shard(model, job_table, tmp_path / "job", "2/2", **options)
    (name, value), *_ = options.items()
    message = rf"2-of-2 has the results of another request:\n(.*\n)?  .*{name}: {value} \(now .*\n.*remove its folder"
    with pytest.raises(OtherRequest, match=message):
        of_shard(model, job_table, tmp_path / "job", None)

    shutil.rmtree(other.folder)
    joined = of_shard(model, job_table, tmp_path / "job", None)
    assert files(joined.folder) == files(whole_job.folder)


@pytest.mark.slow
def test_another_request_than_that_of_the_shards_is_an_error_and_loses_nothing(
    model: Model, job_table: Path, whole_job: nibt.Job, tmp_path: Path
) -> None:
    of_shard(model, job_table, tmp_path / "job", "1/2")
    with pytest.raises(OtherRequest):
        of_shard(model, job_table, tmp_path / "job", None, steps=3)
    joined = of_shard(model, job_table, tmp_path / "job", None)
    assert files(joined.folder) == files(whole_job.folder)


def test_shards_that_run_are_not_joined(model: Model, job_table: Path, tmp_path: Path) -> None:
    shard = of_shard(model, job_table, tmp_path / "job", "1/2")
    with FileLock(shard.folder / ".nibt.lock"), pytest.raises(BadInput, match="another run is writing into"):
        of_shard(model, job_table, tmp_path / "job", None)
    assert not of_shard(model, job_table, tmp_path / "job", None).check()


def test_a_job_with_results_takes_no_shards(model: Model, job_table: Path, whole_job: nibt.Job) -> None:
    with pytest.raises(OtherRequest, match="has results of a run without shards"):
        of_shard(model, job_table, whole_job.folder, "1/2")


@pytest.mark.usefixtures("unchecked")
@pytest.mark.parametrize("shard", ["0/3", "4/3", "3", "a/b", "1/0", "-1/3", "", 3, "1/1000000"])
def test_no_shard_is_an_error(shard: str, model: Model, job_table: Path, tmp_path: Path) -> None:
    with pytest.raises(BadOption, match="shard must be a number and their count, such as 3/16"):
        of_shard(model, job_table, tmp_path / "job", shard)
    assert not (tmp_path / "job").exists()


def test_the_command_explains_a_shard_and_joins_them(run: Run, clip_folder: Path, job_table: Path) -> None:
    command = ("batch", job_table, "-m", clip_folder, "--method", "gae", "--chunk-size", "4", "-o", "JOB")
    code, out, err = run(*command, "--shard", "1/2")
    assert code == 0, err
    assert "in shard 1 of 2; when all are done, the same command without --shard joins them" in " ".join(out.split())

    code, out, err = run("show", "JOB")
    assert code == 1
    assert "has shards only" in " ".join(err.split())

    code, out, err = run(*command)
    assert code == 0, err
    assert f"{COUNT} rows written" in out
    manifest = json.loads(Path("JOB/manifest.json").read_text())
    assert (manifest["rows"], manifest["shard"]) == (COUNT, None)
    code, out, err = run("show", "JOB", "--verify")
    assert code == 0, err + out
