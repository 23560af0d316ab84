"""Jobs: pairs in every form that is read, answers that come back whole, and what happens when something breaks."""

import ast
import csv
import errno
import json
import os
import random
import shutil
import tarfile
import threading
import time
import tracemalloc
from collections.abc import Callable, Iterator
from io import BytesIO
from pathlib import Path
from typing import Any

import pytest
import torch
from filelock import FileLock

import nibt
import tiny
from helpers import ROOT, Run
from jobs import CHUNK, PROCESSES, parts, told
from nibt import jobs, parquet
from nibt.data.images import ImageInput
from nibt.datasets._opening import open_pairs
from nibt.datasets._records import RecordDataset
from nibt.datasets.scenes import Scenes
from nibt.errors import BadInput, BadOption, CannotWrite, OtherRequest, Unsupported
from nibt.jobs import worker as work
from nibt.jobs.chunks import Chunks
from nibt.jobs.manifest import SmallerBatch
from nibt.jobs.rows import schema
from nibt.models.base import Model
from nibt.progress import Progress

COUNT = 10
NAMED = [f"{item}.png" for item in range(COUNT)]
CAPTIONS = [tiny.CAPTIONS[item % 4] for item in range(COUNT)]
OPTIONS: dict[str, Any] = {"chunk_size": CHUNK, "batch_size": 2, "steps": 2}


@pytest.fixture(scope="module")
def model() -> Model:
    return tiny.model("clip")


@pytest.fixture(scope="module")
def job_images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Ten images, 0.png to 9.png."""
    folder = tmp_path_factory.mktemp("images")
    for item in range(COUNT):
        tiny.image(64 + item, 48, item).pil_image.save(folder / f"{item}.png")
    return folder


@pytest.fixture(scope="module")
def job_table(job_images: Path) -> Path:
    """The ten pairs."""
    return as_csv(job_images, job_images)


@pytest.fixture(scope="module")
def whole_job(model: Model, job_table: Path, tmp_path_factory: pytest.TempPathFactory) -> nibt.Job:
    """The job of the ten pairs, undisturbed."""
    return nibt.batch(model, job_table, tmp_path_factory.mktemp("whole"), **OPTIONS)


# Forms of pairs


def as_csv(job_images: Path, out: Path) -> Path:
    with (out / "pairs.csv").open("w", newline="") as stream:
        csv.writer(stream).writerows([["image", "caption"], *zip(NAMED, CAPTIONS, strict=True)])
    return out / "pairs.csv"


def as_tsv(job_images: Path, out: Path) -> Path:
    path = job_images / "pairs.tsv"
    path.write_text("caption\timage\n" + "".join(f"{told}\t{item}.png\n" for item, told in enumerate(CAPTIONS)))
    return path


def as_jsonl(job_images: Path, out: Path) -> Path:
    path = job_images / "lines.jsonl"
    path.write_text(
        "".join(
            json.dumps({"image": f"{item}.png", "caption": told, "more": 1}) + "\n"
            for item, told in enumerate(CAPTIONS)
        )
    )
    return path


def as_data_set(job_images: Path, out: Path) -> Path:
    shutil.copytree(job_images, out / "images")
    as_csv(job_images, out)
    return out


def as_plain_folder(job_images: Path, out: Path) -> Path:
    for item, caption in enumerate(CAPTIONS):
        shutil.copy(job_images / f"{item}.png", out)
        (out / f"{item}.txt").write_text(caption + "\n")
    return out


def as_parquet(job_images: Path, out: Path) -> Path:
    arrow, files = parquet.pyarrow()
    rows = [{"image": f"{item}.png", "caption": told} for item, told in enumerate(CAPTIONS)]
    files.write_table(arrow.Table.from_pylist(rows), job_images / "pairs.parquet", row_group_size=3)
    return job_images / "pairs.parquet"


def as_parquet_of_bytes(job_images: Path, out: Path) -> list[Path]:
    arrow, files = parquet.pyarrow()
    rows = [
        {"image": {"bytes": (job_images / f"{item}.png").read_bytes(), "path": None}, "caption": [told, "other"]}
        for item, told in enumerate(CAPTIONS)
    ]
    for name, part in (("one", rows[:7]), ("two", rows[7:])):
        files.write_table(arrow.Table.from_pylist(part), out / f"{name}.parquet")
    return [out / "one.parquet", out / "two.parquet"]


def put(tar: tarfile.TarFile, name: str, data: bytes) -> None:
    member = tarfile.TarInfo(name)
    member.size = len(data)
    tar.addfile(member, BytesIO(data))


def as_shards(job_images: Path, out: Path, ending: str = ".tar", caption: str = "txt") -> Path:
    for shard, items in enumerate((range(6), range(6, COUNT))):
        with tarfile.open(out / f"pairs-{shard:02d}{ending}", "w:gz" if ending.endswith("gz") else "w") as tar:
            for item in items:
                told = CAPTIONS[item] if caption == "txt" else json.dumps({"caption": CAPTIONS[item]})
                put(tar, f"deep/{item}.{caption}", told.encode())
                put(tar, f"deep/{item}.png", (job_images / f"{item}.png").read_bytes())
    return out


def as_packed_shards(job_images: Path, out: Path) -> list[Path]:
    as_shards(job_images, out, ".tar.gz", "json")
    return sorted(out.glob("*.tar.gz"))


def as_pattern(job_images: Path, out: Path) -> str:
    return str(as_shards(job_images, out) / "pairs-{00..01}.tar")


def as_saved(job_images: Path, out: Path) -> Path:
    package = pytest.importorskip("datasets", reason="needs the package datasets: pip install 'nibt[data]'")
    told = {"image": [str(job_images / f"{item}.png") for item in range(COUNT)], "caption": CAPTIONS}
    package.Dataset.from_dict(told).cast_column("image", package.Image()).save_to_disk(out / "saved")
    return out / "saved"


FORMS = (
    as_tsv,
    as_jsonl,
    as_data_set,
    as_plain_folder,
    as_parquet,
    as_parquet_of_bytes,
    as_shards,
    as_packed_shards,
    as_pattern,
    as_saved,
)
NAMES = ("key", "source")  # what a form calls a row and its image is its own


@pytest.mark.parametrize("form", FORMS)
def test_every_form_gives_the_same_answers(
    form: Callable[[Path, Path], Any], model: Model, job_images: Path, whole_job: nibt.Job, tmp_path: Path
) -> None:
    (tmp_path / "pairs").mkdir()
    job = nibt.batch(model, form(job_images, tmp_path / "pairs"), tmp_path / "out", **OPTIONS)
    assert job.manifest.rows == COUNT
    assert not job.check()
    for row, wanted in zip(job.rows(), whole_job.rows(), strict=True):
        assert {**row, **dict.fromkeys(NAMES)} == {**wanted, **dict.fromkeys(NAMES)}
    answer = job.explanation(7)
    assert answer.image.input is not None, "it is found again, wherever it lies"
    assert nibt.draw(answer).width > 100


def test_a_job_says_what_explain_says(model: Model, job_images: Path, whole_job: nibt.Job) -> None:
    """The same batches are the same bits. Those of a job come in the order of its rows; a call for all would put
    captions of like length together.
    """
    for first in range(0, COUNT, 2):
        items = range(first, min(first + 2, COUNT))
        shown, said = [job_images / f"{item}.png" for item in items], [CAPTIONS[item] for item in items]
        wanted = nibt.explain(model, [str(path) for path in shown], said, batch_size=2, steps=2)
        for item, answer in zip(items, wanted, strict=True):
            assert whole_job.explanation(item).to_json() == answer.to_json()


@pytest.mark.parametrize(
    ("method", "options"),
    [
        ("nib", {"target": "difference", "against": ("a red bird",), "layer": "1,2"}),
        ("grad_cam", {"target": "softmax", "against": ("two cars", "a mat"), "templates": ()}),
        ("rise", {"masks": 8, "seed": 3}),
        ("nib", {"target": "ensemble", "templates": ["a photo of {}", "{}"], "tolerance": 1e-9}),
    ],
)
def test_answers_of_other_questions_come_back_whole(
    method: str, options: dict[str, Any], model: Model, job_images: Path, job_table: Path, tmp_path: Path
) -> None:
    job = nibt.batch(model, job_table, tmp_path, method, chunk_size=1, batch_size=1, **options)
    for item in (0, 7):
        wanted = nibt.explain(model, str(job_images / f"{item}.png"), CAPTIONS[item], method, batch_size=1, **options)
        assert job.explanation(item).to_json() == wanted.to_json()


def test_shards_are_read_by_other_tools(whole_job: nibt.Job) -> None:
    from pyarrow import dataset

    found = dataset.dataset(whole_job.folder / "parts").to_table(columns=["row", "grid", "grid_shape", "words"])
    assert sorted(found["row"].to_pylist()) == list(range(COUNT))
    first = found.to_pylist()[0]
    assert len(first["grid"]) == first["grid_shape"][0] * first["grid_shape"][1]
    assert {"text", "score", "tokens"} == set(first["words"][0])
    assert whole_job.manifest.request["model"]["weights_hash"] == tiny.model("clip").weights_hash
    assert [row["row"] for row in whole_job.rows(["row"])] == list(range(COUNT))


def test_data_sets_are_pairs_too(tmp_path: Path) -> None:
    data = Scenes(count=3, seed=4)
    job = nibt.batch(tiny.model("clip"), data, tmp_path, steps=1)
    assert [row["caption"] for row in job.rows()] == [pair.caption for pair in data]
    with pytest.raises(OtherRequest, match=r"pairs\.fingerprint"):
        nibt.batch(tiny.model("clip"), Scenes(count=3, seed=5), tmp_path, steps=1)


@pytest.mark.parametrize(
    ("pairs", "options", "kind", "message"),
    [
        ("nothing.csv", {}, BadInput, "no such file or folder"),
        ("notes.docx", {}, BadInput, "is of no kind that is read"),
        ("pairs.csv", {"image": "photo"}, BadOption, "has no column photo.*it has image, caption.*--image"),
        ("pairs.parquet", {"caption": "text"}, BadOption, "has no column text.*it has image, caption.*--caption"),
        ("pairs.csv", {"split": "train"}, BadOption, "leave it out"),
        ("pairs.csv", {"chunk_size": 0}, BadOption, "chunk_size must be a whole number from 1"),
        ("pairs.csv", {"on": "mars"}, BadOption, "on must be one of local, ray"),
        ("empty", {}, BadInput, "holds no pairs"),
        (["pairs.csv", "pairs.parquet"], {}, BadInput, "several files must be"),
        ([], {}, BadInput, "pairs must be"),
    ],
)
def test_what_is_no_job(
    pairs: Any,
    options: dict[str, Any],
    kind: type[Exception],
    message: str,
    model: Model,
    job_images: Path,
    tmp_path: Path,
) -> None:
    as_csv(job_images, tmp_path)
    shutil.copy(as_parquet(job_images, tmp_path), tmp_path)
    (tmp_path / "notes.docx").touch()
    (tmp_path / "empty").mkdir()
    given = [tmp_path / one for one in pairs] if isinstance(pairs, list) else tmp_path / pairs
    with pytest.raises(kind, match=message):
        nibt.batch(model, given, tmp_path / "out", **options)
    assert not list(tmp_path.glob("out/parts/*"))


# Bad rows


def test_bad_rows_are_recorded_and_cost_no_other(model: Model, job_images: Path, tmp_path: Path) -> None:
    """Images cut short, of no format, not there; captions blank, of no word, of no text; lines of no JSON."""
    (tmp_path / "short.png").write_bytes((job_images / "0.png").read_bytes()[:300])
    (tmp_path / "text.png").write_text("no image")
    shutil.copy(job_images / "0.png", tmp_path)
    good = {"image": "0.png", "caption": CAPTIONS[0]}
    bad: dict[str, tuple[Any, str]] = {
        "short": ({**good, "image": "short.png"}, "'short.png' is a broken or truncated image"),
        "text": ({**good, "image": "text.png"}, "'text.png' is not an image"),
        "gone": ({**good, "image": "gone.png"}, "no image 'gone.png': no such file"),
        "blank": ({**good, "caption": "  "}, "the caption is blank"),
        "number": ({**good, "caption": 3}, "the caption must be a text"),
        "lacking": ({"image": "0.png"}, "'caption' is lacking"),
        "broken": ("{", "this is not JSON"),
        "half": ('{"image": "0.png", "caption": "\\ud83d"}', "holds an unpaired surrogate"),
        "nothing": ({**good, "image": None}, r"must be a path or the bytes of a file \(got nothing"),
    }
    lines = [line for told, _ in bad.values() for line in (good, told)]
    path = tmp_path / "pairs.jsonl"
    path.write_text("".join((line if isinstance(line, str) else json.dumps(line)) + "\n" for line in lines))
    job = nibt.batch(model, path, tmp_path / "out", **OPTIONS)
    assert (job.manifest.rows, job.manifest.errors) == (2 * len(bad), len(bad))
    assert not job.check()
    rows = list(job.rows())
    for row, (_, message) in zip(rows[1::2], bad.values(), strict=True):
        assert row["similarity"] is None
        with pytest.raises(BadInput, match=message):
            job.explanation(row["row"])
    for row in rows[::2]:
        assert row["error"] is None
        assert row["grid"] == pytest.approx(rows[0]["grid"], abs=1e-5)


def test_one_in_ten_pictures_unreadable(model: Model, tmp_path: Path) -> None:
    with (tmp_path / "pairs.csv").open("w", newline="") as stream:
        csv.writer(stream).writerows([["image", "caption"], *([f"{item}.png", "a cat"] for item in range(40))])
    for item in range(40):
        tiny.image(seed=item).pil_image.save(tmp_path / f"{item}.png")
        if item % 10 == 7:
            os.truncate(tmp_path / f"{item}.png", 100 * (item // 10))
    job = nibt.batch(model, tmp_path / "pairs.csv", tmp_path / "out", steps=1, chunk_size=16)
    assert [row["row"] for row in job.rows() if row["error"] is not None] == [7, 17, 27, 37]
    assert not job.check()


def test_rows_of_a_table_with_other_fields_than_its_heading(model: Model, job_images: Path, tmp_path: Path) -> None:
    (tmp_path / "pairs.csv").write_text(f"image,caption\n{job_images}/0.png,a cat, a dog\n{job_images}/1.png,cat\n")
    first, second = nibt.batch(model, tmp_path / "pairs.csv", tmp_path / "out", steps=1).rows()
    assert "pairs.csv, line 2: expected 2 fields (got 3); put texts" in first["error"]
    assert second["error"] is None


def test_a_shard_that_is_cut_short(model: Model, job_images: Path, tmp_path: Path) -> None:
    as_shards(job_images, tmp_path)
    with tarfile.open(tmp_path / "pairs-00.tar") as tar:
        os.truncate(tmp_path / "pairs-00.tar", tar.getmember("deep/4.png").offset_data + 10)
    job = nibt.batch(model, tmp_path, tmp_path / "out", **OPTIONS)
    rows = list(job.rows())
    assert [row["key"] for row in rows] == [
        *(f"deep/{item}" for item in range(5)),
        "pairs-00.tar, the rest",
        *(f"deep/{item}" for item in range(6, COUNT)),
    ]
    assert [bool(row["error"]) for row in rows] == [False] * 4 + [True] * 2 + [False] * 4
    assert "the sample has not an image" in rows[4]["error"]
    assert "broken or cut short" in rows[5]["error"]


def test_what_nobody_foresaw_stays_in_its_row(
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
    assert failed == [item for item, told in enumerate(CAPTIONS) if told == CAPTIONS[1]]
    assert sum(row["error"] is None for row in rows) == COUNT - len(failed)


def test_where_nothing_at_all_can_be_explained_the_job_stops(
    model: Model, job_table: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def failing(question: Any, ready: Any) -> Any:
        raise RuntimeError("no such kernel")

    monkeypatch.setattr(work, "explain_batch", failing)
    with pytest.raises(RuntimeError, match="no such kernel"):
        nibt.batch(model, job_table, tmp_path, **OPTIONS | {"chunk_size": 16})
    assert list(tmp_path.iterdir()) == []  # so that the corrected call may go there


# The same bits, however it comes to its end


def test_a_job_goes_on_where_it_was(model: Model, job_table: Path, whole_job: nibt.Job, tmp_path: Path) -> None:
    """Lacking, broken, doubled and half-written files: they are made again, the others are left."""
    shutil.copytree(whole_job.folder, tmp_path / "out")
    folder = tmp_path / "out" / "parts"
    one, two, three = parts(tmp_path / "out")
    (folder / one).unlink()
    broken = bytearray((folder / two).read_bytes())
    broken[len(broken) // 2] ^= 1
    (folder / two).write_bytes(broken)
    shutil.copy(folder / three, folder / f"{three[:8]}-{'0' * 16}.parquet")
    (folder / f".{Path(one).stem}.12-345.parquet").write_bytes(b"half of it")
    job = nibt.Job.open(tmp_path / "out")
    assert {problem.split(" ")[-1] for problem in job.check()} >= {"missing", "anew"}
    assert len(job.check()) == 4
    done: list[Progress] = []
    nibt.batch(model, job_table, tmp_path / "out", **OPTIONS, on_progress=done.append)
    assert parts(tmp_path / "out") == parts(whole_job.folder)
    assert [one.done for one in done] == [
        1,
        2,
        2 + CHUNK,
        2 + 2 * CHUNK,
    ]  # the rows that are there, and the chunks that are made
    assert not list(folder.glob(".*"))
    assert not job.check()
    assert job.manifest.sessions[-1]["recomputed"] == sorted([two, f"{three[:8]}-{'0' * 16}.parquet"])
    assert job.manifest.sessions[-1]["ended"] == "complete"


def test_what_is_there_is_not_made_again(
    model: Model, job_table: Path, whole_job: nibt.Job, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copytree(whole_job.folder, tmp_path / "out")
    monkeypatch.setattr(work, "explain_batch", None)
    assert nibt.batch(model, job_table, tmp_path / "out", **OPTIONS).manifest == whole_job.manifest


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"steps": 3}, r"method\.image\.steps: 2 \(now 3\)"),
        ({"target": "difference", "against": "a dog"}, r"target\.target: cosine \(now difference\)"),
        ({"batch_size": 3}, r"batch_size: 2 \(now 3\)"),
        ({"chunk_size": 5}, r"layout\.chunk: 4 \(now 5\)"),
        ({"image": "caption", "caption": "image"}, r"pairs\.image: image \(now caption\)"),
    ],
)
def test_another_job_does_not_go_into_the_folder(
    change: dict[str, Any], told: str, model: Model, job_table: Path, whole_job: nibt.Job, tmp_path: Path
) -> None:
    shutil.copytree(whole_job.folder, tmp_path / "out")
    (tmp_path / "out" / "parts" / parts(whole_job.folder)[0]).unlink()
    with pytest.raises(OtherRequest, match=told):
        nibt.batch(model, job_table, tmp_path / "out", **{**OPTIONS, **change})


def test_other_weights_do_not_go_into_the_folder(job_table: Path, whole_job: nibt.Job, tmp_path: Path) -> None:
    shutil.copytree(whole_job.folder, tmp_path / "out")
    (tmp_path / "out" / "parts" / parts(whole_job.folder)[0]).unlink()
    other = tiny.fresh("clip")
    with torch.no_grad():
        next(other.module.parameters()).add_(1e-3)
    with pytest.raises(OtherRequest, match=r"model\.weights_hash"):
        nibt.batch(other, job_table, tmp_path / "out", **OPTIONS)


def test_reading_ahead_changes_nothing(
    model: Model, job_table: Path, whole_job: nibt.Job, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(work, "read_ahead", lambda items, count: iter(items))
    nibt.batch(model, job_table, tmp_path, **OPTIONS)
    assert parts(tmp_path) == parts(whole_job.folder)


def test_the_next_rows_are_made_ready_meanwhile(
    model: Model, job_table: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """While the first batch waits to be explained, a later one is read, in another thread."""
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


def test_too_little_memory_halves_the_batch(
    model: Model, job_table: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of eight rows three go at once; the numbers are the same to 1e-5, and the manifest tells."""
    asked = {**OPTIONS, "batch_size": 8, "chunk_size": 8}
    wanted, own, sizes = nibt.batch(model, job_table, tmp_path / "wanted", **asked), work.explain_batch, []

    def small(question: Any, ready: Any) -> Any:
        sizes.append(len(ready.pairs))
        if len(ready.pairs) > 3:
            raise torch.OutOfMemoryError("out of memory")
        return own(question, ready)

    monkeypatch.setattr(work, "explain_batch", small)
    job = nibt.batch(model, job_table, tmp_path / "found", **asked)
    assert sizes == [8, 4, 2, 2, 2, 2, 2]
    assert job.manifest.halved == [SmallerBatch(chunk=0, batch_size=2)]
    assert not job.manifest.errors
    for found, row in zip(job.rows(), wanted.rows(), strict=True):
        for name in ("grid", "text_scores"):
            length = min(len(found[name]), len(row[name]))  # captions are filled up to the longest of their batch
            assert found[name][:length] == pytest.approx(row[name][:length], abs=1e-5)
        assert found["similarity"] == pytest.approx(row["similarity"], abs=1e-5)
        assert [word["text"] for word in found["words"]] == [word["text"] for word in row["words"]]


def test_a_picture_that_does_not_fit_alone_is_its_own_failure(
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


def test_a_full_disk_stops_the_job_and_leaves_no_half_file(
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
        with pytest.raises(CannotWrite, match="No space left on device; nothing was left there"):
            nibt.batch(model, job_table, tmp_path, **OPTIONS)
    assert parts(tmp_path) == parts(whole_job.folder)[:1]
    assert not list((tmp_path / "parts").glob(".*"))
    assert not nibt.batch(model, job_table, tmp_path, **OPTIONS).check()
    assert parts(tmp_path) == parts(whole_job.folder)


def test_no_clock_is_asked(
    model: Model, job_table: Path, whole_job: nibt.Job, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing depends on it: not in the code, not with files from the future, not after it was set back."""
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
    ]  # the rows that are there, and those that are made
    assert parts(tmp_path / "out") == parts(whole_job.folder)


def test_two_runs_into_one_folder_are_refused(model: Model, job_table: Path, tmp_path: Path) -> None:
    tmp_path.joinpath("out").mkdir()
    with FileLock(tmp_path / "out" / ".lock"), pytest.raises(BadInput, match="another run is writing into"):
        nibt.batch(model, job_table, tmp_path / "out", **OPTIONS)
    assert not nibt.batch(model, job_table, tmp_path / "out", **OPTIONS).check()


def test_a_million_rows_are_not_held(tmp_path: Path) -> None:
    """One pass, whatever is there already; memory for a chunk."""
    path = tmp_path / "pairs.csv"
    path.write_text("image,caption\n" + "".join(f"{item}.png,a cat number {item}\n" for item in range(12_000)))
    chunks = Chunks(open_pairs(path), 100, lambda number: number % 3 == 2)
    tracemalloc.start()
    numbers = [(chunk.number, len(chunk.records), chunk.records[0].row) for chunk in chunks]
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert numbers == [(number, 100, 100 * number) for number in range(2, 120, 3)]
    assert chunks.count == 12_000
    assert peak < 1_000_000


# Killed


@pytest.fixture
def child() -> Iterator[Callable[..., tuple[Any, Any]]]:
    """Starts a job in a process of its own, which is quick: it comes from one that has imported everything."""
    started = []

    def start(*arguments: Any) -> tuple[Any, Any]:
        here, there = PROCESSES.Pipe()
        process = PROCESSES.Process(target=told, args=(*arguments, there))
        process.start()
        there.close()
        started.append(process)
        return process, here

    yield start
    for process in started:
        process.kill()
        process.join()


def test_killed_at_any_moment_it_goes_on(
    clip_folder: Path, job_table: Path, tmp_path: Path, child: Callable[..., tuple[Any, Any]]
) -> None:
    process, pipe = child(clip_folder, job_table, tmp_path / "whole", None)
    assert pipe.recv() == ""
    process.join()
    draws, there = random.Random(0), []
    for _ in range(4):
        process, _ = child(clip_folder, job_table, tmp_path / "killed", None)
        wanted, until = len(parts(tmp_path / "killed")) + draws.randrange(2), time.monotonic() + 30
        while len(parts(tmp_path / "killed")) < wanted and process.is_alive() and time.monotonic() < until:
            time.sleep(0.002)
        time.sleep(draws.uniform(0, 0.2))
        process.kill()
        process.join()
        there.append(len(parts(tmp_path / "killed")))
    process, pipe = child(clip_folder, job_table, tmp_path / "killed", None)
    assert pipe.recv() == "", there
    assert parts(tmp_path / "killed") == parts(tmp_path / "whole")
    assert not nibt.Job.open(tmp_path / "killed").check()


def test_files_that_may_not_grow_and_a_holder_that_is_killed(
    clip_folder: Path, job_table: Path, tmp_path: Path, child: Callable[..., tuple[Any, Any]]
) -> None:
    """The system's own refusal to write, and its own lock: nothing is stale."""
    _, pipe = child(clip_folder, job_table, tmp_path, 6_000)
    assert "CannotWrite: cannot write" in (told := pipe.recv())
    assert "File too large; nothing was left there" in told
    assert parts(tmp_path) == []
    (tmp_path / "lock").mkdir()
    os.mkfifo(tmp_path / "slow.csv")  # a table that nobody writes: its reader waits, and holds the folder
    process, _ = child(clip_folder, tmp_path / "slow.csv", tmp_path / "lock", None)
    process.kill()
    process.join()
    _, pipe = child(clip_folder, job_table, tmp_path / "lock", None)
    assert pipe.recv() == ""


# The command


def test_the_command(run: Run, clip_folder: Path, job_table: Path, whole_job: nibt.Job) -> None:
    code, out, err = run(
        "batch", job_table, "-m", clip_folder, "--out", "job", "--chunk-size", CHUNK, "--batch-size", 2, "--steps", 2
    )
    assert (code, err.replace("\x1b", "")) == (0, err)
    assert "10 rows written, 0 failed; now: nibt show job ROW" in out
    assert [row["grid"] for row in nibt.Job.open("job").rows()] == [row["grid"] for row in whole_job.rows()]
    code, out, _ = run("show", "job", 7)
    assert code == 0
    assert json.loads(Path("7-7-cat.json").read_text())["text"]["caption"] == CAPTIONS[7]
    assert Path("7-7-cat.png").stat().st_size > 1000
    assert run("verify", "job")[:2] == (0, "job is complete: 10 rows, each once\n")
    (next(Path("job/parts").glob("00000001-*"))).unlink()
    assert run("verify", "job")[:2] == (1, "the file of chunk 1 is missing\n")
    for arguments, exit_code, message in (
        (("show", "job", 5), 2, "there is no row 5 in 'job': rows run from 0 to 9"),
        (("show", "nowhere", 5), 1, "holds no job"),
        (("batch", job_table), 2, "--out DIR"),
        (("batch", "--out", "x"), 2, "give the pairs"),
        (("batch", job_table, "--out", "x", "--send-images"), 2, "give --on ray"),
        (("batch", job_table, "--out", "x", "--method", "nibb"), 2, "Did you mean 'nib'"),
        (("batch", "gone.csv", "--out", "x"), 1, "no such file or folder"),
    ):
        code, _, err = run(*arguments, *(["-q"] if arguments[0] == "batch" else []))
        assert (code, message in err) == (exit_code, True), err


def test_without_pyarrow(model: Model, job_table: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "pyarrow", None)
    with pytest.raises(Unsupported, match=r"a job needs pyarrow: pip install 'nibt\[batch\]'"):
        nibt.batch(model, job_table, tmp_path)


def test_the_columns_are_those_of_the_document() -> None:
    text = (ROOT / "docs" / "batch.md").read_text()
    for name in schema(parquet.pyarrow()[0]).names:
        assert f"`{name}`" in text, name
