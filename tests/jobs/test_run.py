"""Tests of ``nibt.jobs.run``."""

import ast
import errno
import json
import math
import os
import random
import re
import shutil
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from filelock import FileLock

import nibt
from nibt import jobs
from nibt.errors import BadInput, BadOption, CannotWrite, OtherRequest, Unsupported, WouldOverwrite
from nibt.io import short_digest
from nibt.jobs import worker as work
from nibt.models.base import Model
from nibt.progress import Progress
from tests import tiny
from tests.job_pairs import CAPTIONS, COUNT, OPTIONS
from tests.processes import CHUNK, PROCESSES, parts, report_job


def test_batch_equals_explain(model: Model, job_images: Path, whole_job: nibt.Job) -> None:
    """The batches of a chunk are those of one call with its pairs, by the length of captions. So are the bits."""
    for first in range(0, COUNT, CHUNK):
        items = range(first, min(first + CHUNK, COUNT))
        shown, captions = [job_images / f"{item}.png" for item in items], [CAPTIONS[item] for item in items]
        wanted = nibt.explain(model, [str(path) for path in shown], captions, batch_size=2, steps=2)
        for item, answer in zip(items, wanted, strict=True):
            assert whole_job.explanation(item).to_json() == answer.to_json()


@pytest.mark.parametrize(
    ("method", "options"),
    [
        pytest.param(
            "nib", {"target": "difference", "against": ("a red bird",), "layer": "1,2"}, marks=pytest.mark.slow
        ),
        ("grad_cam", {"target": "softmax", "against": ("two cars", "a mat"), "templates": ()}),
        pytest.param("rise", {"masks": 8, "seed": 3}, marks=pytest.mark.slow),
        pytest.param(
            *("nib", {"target": "ensemble", "templates": ["a photo of {}", "{}"], "tolerance": 1e-9}),
            marks=pytest.mark.slow,
        ),
    ],
)
def test_batch_stores_answers_of_other_requests(
    method: str, options: dict[str, Any], model: Model, job_images: Path, job_table: Path, tmp_path: Path
) -> None:
    job = nibt.batch(model, job_table, tmp_path, method, chunk_size=1, batch_size=1, **options)
    for item in (0, 7):
        wanted = nibt.explain(model, str(job_images / f"{item}.png"), CAPTIONS[item], method, batch_size=1, **options)
        assert job.explanation(item).to_json() == wanted.to_json()


def test_batch_refuses_the_baseline_against_without_an_image(model: Model, job_table: Path, tmp_path: Path) -> None:
    with pytest.raises(BadOption, match="the baseline against is the state of one other image"):
        nibt.batch(model, job_table, tmp_path / "out", image_baseline="against")
    assert not (tmp_path / "out").exists()


def test_batch_resumes_a_job_and_keeps_files_that_were_changed(
    model: Model, job_table: Path, whole_job: nibt.Job, tmp_path: Path
) -> None:
    """Missing and partial files are computed again, the others stay; a changed one is refused by its name."""
    shutil.copytree(whole_job.folder, tmp_path / "out")
    folder = tmp_path / "out" / "parts"
    one, two, three = parts(tmp_path / "out")
    begun = (folder / one).read_bytes()[:100]
    (folder / one).unlink()
    broken = bytearray((folder / two).read_bytes())
    broken[len(broken) // 2] ^= 1
    (folder / two).write_bytes(broken)
    twin = folder / f"{three[:8]}-{'0' * 16}.parquet"
    shutil.copy(folder / three, twin)
    (folder / f".{Path(one).stem}.12-345-6.parquet").write_bytes(begun)
    job = nibt.Job.open(tmp_path / "out")
    assert {problem.split(" ")[-1] for problem in job.check()} >= {"missing", "again"}
    assert len(job.check()) == 4
    with pytest.raises(BadInput, match=f"{two} was changed after it was written"):
        job.explanation(CHUNK)
    for changed in (two, twin.name):
        with pytest.raises(WouldOverwrite, match="was changed after it was written: move it away"):
            nibt.batch(model, job_table, tmp_path / "out", **OPTIONS)
        assert (folder / changed).exists()
        (folder / changed).unlink()
    done: list[Progress] = []
    nibt.batch(model, job_table, tmp_path / "out", **OPTIONS, on_progress=done.append)
    assert parts(tmp_path / "out") == parts(whole_job.folder)
    assert not list(folder.glob(".*"))
    assert nibt.Job.open(tmp_path / "out").check() == []


def test_counts_in_the_manifest_are_not_believed(whole_job: nibt.Job, tmp_path: Path) -> None:
    shutil.copytree(whole_job.folder, tmp_path / "out")
    manifest = tmp_path / "out" / "manifest.json"
    manifest.write_text(json.dumps({**json.loads(manifest.read_text()), "rows": 10**12}))
    job = nibt.Job.open(tmp_path / "out")
    (problem,) = [problem for problem in job.check() if "missing" in problem]
    assert problem.startswith("the files of chunks 3 to ")
    with pytest.raises(
        BadOption, match=r"10 of its 1000000000000 rows are stored; check it with nibt show .* --verify"
    ):
        job.explanation(99)


def written(path: Path, table: Any) -> None:
    """Write a table in place of a part, whose name then has the digest of its bytes."""
    pq.write_table(table, path)
    path.rename(path.with_name(f"{path.stem.partition('-')[0]}-{short_digest(path)}.parquet"))


def with_nan(table: pa.Table) -> pa.Table:
    column = [[*grid[:-1], [math.nan] * len(grid[-1])] for grid in table["grid"].to_pylist()]
    place = table.schema.get_field_index("grid")
    return table.set_column(place, table.schema.field(place), pa.array(column, table.schema.field(place).type))


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        (with_nan, r"row \d+ in .* has no explanation that can be read"),
        (lambda table: table.drop_columns(["grid"]), r"row \d+ in .* has no explanation that can be read"),
        (lambda table: table.drop_columns(["error"]), "unknown column 'error'"),
        (lambda table: table.replace_schema_metadata(None), "no metadata of nibt"),
    ],
)
def test_check_reads_the_explanations(
    whole_job: nibt.Job, tmp_path: Path, change: Callable[[pa.Table], pa.Table], problem: str
) -> None:
    shutil.copytree(whole_job.folder, tmp_path / "out")
    job = nibt.Job.open(tmp_path / "out")
    path = job.chunks()[0][0]
    written(path, change(pq.read_table(path)))
    problems = job.check()
    assert problems
    assert all(re.search(problem, line) for line in problems)


def test_a_folder_without_a_job_says_so(tmp_path: Path) -> None:
    assert "there is no such folder" in repr(nibt.Job(tmp_path / "nowhere"))
    with pytest.raises(BadInput, match="there is no such folder"):
        list(nibt.Job(tmp_path / "nowhere").rows())
    assert "it has no manifest.json" in repr(nibt.Job(tmp_path))
    (tmp_path / "manifest.json").write_text("[")
    assert "cannot be read" in repr(nibt.Job(tmp_path))


def test_a_manifest_without_errors_is_read(whole_job: nibt.Job, tmp_path: Path) -> None:
    shutil.copytree(whole_job.folder, tmp_path / "out")
    manifest = tmp_path / "out" / "manifest.json"
    manifest.write_text(json.dumps({**json.loads(manifest.read_text()), "errors": None}))
    assert "10 rows, 0 failed" in repr(nibt.Job.open(tmp_path / "out"))
    manifest.write_text(json.dumps({**json.loads(manifest.read_text()), "rows": -1}))
    with pytest.raises(BadInput, match="rows must be"):
        nibt.Job.open(tmp_path / "out")


@pytest.mark.slow
def test_a_note_in_a_manifest_without_parts_is_kept(model: Model, job_table: Path, tmp_path: Path) -> None:
    done = nibt.batch(model, job_table, tmp_path / "out", **OPTIONS)
    manifest = done.folder / "manifest.json"
    manifest.write_text(json.dumps({**json.loads(manifest.read_text()), "note": "mine"}))
    shutil.rmtree(done.folder / "parts")
    nibt.batch(model, job_table, tmp_path / "out", **OPTIONS)
    assert json.loads(manifest.read_text())["note"] == "mine"


def test_batch_does_not_repeat_a_finished_job(
    model: Model, job_table: Path, whole_job: nibt.Job, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copytree(whole_job.folder, tmp_path / "out")
    monkeypatch.setattr(work, "explain_batch", None)
    assert nibt.batch(model, job_table, tmp_path / "out", **OPTIONS).manifest == whole_job.manifest


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"steps": 3}, r"method\.image\.steps: 2 \(now 3\)"),
        ({"target": "difference", "against": "a dog"}, r"target\.name: cosine \(now difference\)"),
        ({"batch_size": 3}, r"batch_size: 2 \(now 3\)"),
        ({"chunk_size": 5}, r"chunk_size: 4 \(now 5\)"),
        ({"image": "caption", "caption": "image"}, r"pairs\.image: image \(now caption\)"),
    ],
)
def test_batch_rejects_a_folder_of_another_job(
    change: dict[str, Any], message: str, model: Model, job_table: Path, whole_job: nibt.Job, tmp_path: Path
) -> None:
    shutil.copytree(whole_job.folder, tmp_path / "out")
    (tmp_path / "out" / "parts" / parts(whole_job.folder)[0]).unlink()
    with pytest.raises(OtherRequest, match=message):
        nibt.batch(model, job_table, tmp_path / "out", **{**OPTIONS, **change})


def test_batch_rejects_a_folder_of_other_weights(job_table: Path, whole_job: nibt.Job, tmp_path: Path) -> None:
    shutil.copytree(whole_job.folder, tmp_path / "out")
    (tmp_path / "out" / "parts" / parts(whole_job.folder)[0]).unlink()
    other = tiny.fresh("clip")
    with torch.no_grad():
        next(other.module.parameters()).add_(1e-3)
    with pytest.raises(OtherRequest, match=r"model\.weights_hash"):
        nibt.batch(other, job_table, tmp_path / "out", **OPTIONS)


def test_batch_stops_at_a_full_disk_without_partial_files(
    model: Model, job_table: Path, whole_job: nibt.Job, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    own, written = Path.write_bytes, []

    def full(path: Path, data: bytes) -> int:
        if len(written) == 1:
            own(path, data[: len(data) // 2])
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        written.append(path)
        return own(path, data)

    with monkeypatch.context() as patch:
        patch.setattr(Path, "write_bytes", full)
        with pytest.raises(CannotWrite, match="No space left on device; no partial file is left"):
            nibt.batch(model, job_table, tmp_path, **OPTIONS)
    assert parts(tmp_path) == parts(whole_job.folder)[:1]
    assert not list((tmp_path / "parts").glob(".*"))
    assert not nibt.batch(model, job_table, tmp_path, **OPTIONS).check()
    assert parts(tmp_path) == parts(whole_job.folder)


def test_batch_does_not_use_the_clock(
    model: Model, job_table: Path, whole_job: nibt.Job, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing depends on the clock: no import, no file from the future, no clock that is set back."""
    for file in Path(jobs.__path__[0]).rglob("*.py"):
        for node in ast.walk(ast.parse(file.read_text())):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import | ast.ImportFrom) else []
            assert not {"time", "datetime", "monotonic"} & {*names, getattr(node, "module", None)}, file.name
    shutil.copytree(whole_job.folder, tmp_path / "out")
    kept, lost = parts(whole_job.folder)[:2], parts(whole_job.folder)[2]
    (tmp_path / "out" / "parts" / lost).unlink()
    for name in kept:
        os.utime(tmp_path / "out" / "parts" / name, (9e9, 9e9))
    os.utime(job_table, (9e9, 9e9))
    monkeypatch.setattr(time, "time", lambda: 1e6)
    done: list[Progress] = []
    nibt.batch(model, job_table, tmp_path / "out", **OPTIONS, on_progress=done.append)
    assert [one.done for one in done] == [
        *range(1, 2 * CHUNK + 1),
        2 * CHUNK + 2,
    ]  # the rows that exist, and those that are computed
    assert parts(tmp_path / "out") == parts(whole_job.folder)


def test_batch_rejects_a_folder_in_use(model: Model, job_table: Path, tmp_path: Path) -> None:
    tmp_path.joinpath("out").mkdir()
    with FileLock(tmp_path / "out" / ".nibt.lock"), pytest.raises(BadInput, match="another run is writing into"):
        nibt.batch(model, job_table, tmp_path / "out", **OPTIONS)
    assert not nibt.batch(model, job_table, tmp_path / "out", **OPTIONS).check()


@pytest.fixture
def child() -> Iterator[Callable[..., tuple[Any, Any]]]:
    """Start a job in a process of its own, forked from a process that has imported everything."""
    started = []

    def start(*arguments: Any) -> tuple[Any, Any]:
        parent, end = PROCESSES.Pipe()
        process = PROCESSES.Process(target=report_job, args=(*arguments, end))
        process.start()
        end.close()
        started.append(process)
        return process, parent

    yield start
    for process in started:
        process.kill()
        process.join()


@pytest.mark.slow
def test_batch_resumes_after_being_killed(
    clip_folder: Path, job_table: Path, tmp_path: Path, child: Callable[..., tuple[Any, Any]]
) -> None:
    process, pipe = child(clip_folder, job_table, tmp_path / "whole", None)
    assert pipe.recv() == ""
    process.join()
    draws, counts = random.Random(0), []
    for _ in range(4):
        process, _ = child(clip_folder, job_table, tmp_path / "killed", None)
        wanted, until = len(parts(tmp_path / "killed")) + draws.randrange(2), time.monotonic() + 30
        while len(parts(tmp_path / "killed")) < wanted and process.is_alive() and time.monotonic() < until:
            time.sleep(0.002)
        time.sleep(draws.uniform(0, 0.2))
        process.kill()
        process.join()
        counts.append(len(parts(tmp_path / "killed")))
    process, pipe = child(clip_folder, job_table, tmp_path / "killed", None)
    assert pipe.recv() == "", counts
    assert parts(tmp_path / "killed") == parts(tmp_path / "whole")
    assert not nibt.Job.open(tmp_path / "killed").check()


@pytest.mark.slow
def test_batch_reports_the_file_size_limit_and_leaves_no_lock(
    clip_folder: Path, job_table: Path, tmp_path: Path, child: Callable[..., tuple[Any, Any]]
) -> None:
    """The file size limit of the system, and its lock, which is never stale."""
    _, pipe = child(clip_folder, job_table, tmp_path, 6_000)
    assert "CannotWrite: cannot write" in (text := pipe.recv())
    assert "File too large; no partial file is left" in text
    assert parts(tmp_path) == []
    (tmp_path / "lock").mkdir()
    os.mkfifo(tmp_path / "slow.csv")  # nobody writes this table: its reader waits while it holds the folder
    process, _ = child(clip_folder, tmp_path / "slow.csv", tmp_path / "lock", None)
    process.kill()
    process.join()
    _, pipe = child(clip_folder, job_table, tmp_path / "lock", None)
    assert pipe.recv() == ""


def test_batch_needs_pyarrow(model: Model, job_table: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "pyarrow", None)
    with pytest.raises(Unsupported, match=r"a job needs pyarrow: in a clone of nibt, pip install '\.\[data\]'"):
        nibt.batch(model, job_table, tmp_path)
