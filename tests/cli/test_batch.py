"""Tests of ``nibt.cli.commands.jobs``."""

import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

import nibt
from tests.helpers import Run
from tests.job_pairs import CAPTIONS, OPTIONS
from tests.processes import CHUNK


def test_batch_show_and_verify_work_together(run: Run, clip_folder: Path, job_table: Path) -> None:
    code, out, err = run(
        "batch",
        job_table,
        "-m",
        clip_folder,
        "--out",
        "job",
        "--chunk-size",
        CHUNK,
        "--batch-size",
        2,
        "--method",
        "nib steps=2",
    )
    assert (code, err.replace("\x1b", "")) == (0, err)
    assert "10 rows written, 0 failed; to draw a row: nibt show job ROW" in out

    # On some processors, the last digits depend on where the weights are in memory, so both models are from the file.
    from_python = nibt.batch(str(clip_folder), job_table, "from_python", **OPTIONS)
    assert [row["grid"] for row in nibt.Job.open("job").rows()] == [row["grid"] for row in from_python.rows()]

    code, out, _ = run("show", "job", 7)
    assert code == 0
    assert json.loads(Path("7-cat.json").read_text())["sides"]["text"]["caption"] == CAPTIONS[7]
    assert Path("7-cat.png").stat().st_size > 1000
    assert run("show", "job", "--verify")[:2] == (0, "job is complete: 10 rows, each stored once\n")
    (next(Path("job/parts").glob("00000001-*"))).unlink()
    assert run("show", "job", "--verify")[:2] == (1, "the file of chunk 1 is missing\n")
    for arguments, exit_code, message in (
        (
            ("show", "job", 5),
            2,
            "there is no row 5 in 'job': 6 of its 10 rows are stored; check it with nibt show job --verify",
        ),
        (("show", "nowhere", 5), 1, "there is no folder"),
        (("show", __file__), 1, "takes the folder of a job or of a benchmark (got the file"),
        (("batch", job_table), 2, "--out DIR"),
        (("batch", "--out", "x"), 2, "the pairs are missing"),
        (("batch", job_table, "--out", "x", "--ray", "worker=2"), 2, "Did you mean 'workers'"),
        (("batch", job_table, "--out", "x", "-D", "images=a"), 2, "Did you mean 'image'"),
        (("batch", job_table, "--out", "x", "--method", "nib on_progress=3"), 2, "unknown option 'on_progress'"),
        (("batch", job_table, "--out", "x", "--method", "nibb"), 2, "Did you mean 'nib'"),
        (("batch", "gone.csv", "--out", "x"), 1, "no such file or folder"),
    ):
        code, _, err = run(*arguments, *(["-q"] if arguments[0] == "batch" else []))
        assert (code, message in err) == (exit_code, True), err


def write_table(name: str, rows: list[str]) -> None:
    Path(name).write_text("image,caption,key\n" + "".join(f"{row}\n" for row in rows))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            b"file,text\nphoto.png,a cat\n",
            "has no column image, caption: it has file, text; choose columns",
        ),
        (b"", "has no column image, caption: it has none"),
        ("image,caption\nphoto.png,caf\u00e9\n".encode("latin-1"), "is not text in UTF-8"),
        (b"image,caption\n", "there are no rows"),
    ],
)
def test_batch_creates_no_folder_if_pairs_cannot_be_read(
    run: Run, photo_file: str, clip_folder: Path, text: bytes, message: str
) -> None:
    Path("pairs.csv").write_bytes(text)
    command = ("batch", "pairs.csv", "--out", "deep/JOB", "-m", clip_folder, "--method", "nib steps=1")
    code, _, err = run(*command)
    assert code in (1, 2)
    assert message in err
    assert not Path("deep").exists()
    write_table("pairs.csv", ["photo.png,a cat,x"])
    assert run(*command)[0] == 0, "the corrected call works"


def test_batch_creates_no_folder_if_the_model_cannot_be_loaded(run: Run, photo_file: str, clip_folder: Path) -> None:
    write_table("pairs.csv", ["photo.png,a cat,x"])
    assert run("batch", "pairs.csv", "--out", "JOB", "-m", "./nosuch")[0] == 1
    assert run("batch", "pairs.csv", "--out", "JOB", "-m", clip_folder, "--target", "softmax")[0] == 2
    assert not Path("JOB").exists()


@pytest.mark.slow
def test_batch_exit_code_depends_on_failed_rows(run: Run, photo_file: str, clip_folder: Path) -> None:
    write_table("good.csv", ["photo.png,a cat,x", "other.png,a dog,x"])
    write_table("some.csv", ["photo.png,a cat,x", "gone.png,a dog,y"])
    write_table("none.csv", ["gone.png,a cat,x", "gone.png,a dog,y"])
    options = ("-m", clip_folder, "--method", "nib steps=1")
    for strict in ((), ("--strict",)):
        code, out, err = run("batch", "good.csv", "--out", f"good{len(strict)}", *options, *strict)
        assert (code, "2 rows written, 0 failed" in out, "failed" in err) == (0, True, False)
        code, out, err = run("batch", "some.csv", "--out", f"some{len(strict)}", *options, *strict)
        assert (code, "1 of 2 rows failed" in err) == (len(strict), True)
        code, out, err = run("batch", "none.csv", "--out", f"none{len(strict)}", *options, *strict)
        assert (code, "2 of 2 rows failed" in err) == (1, True)
        assert run("batch", "none.csv", "--out", f"none{len(strict)}", *options, *strict)[0] == 1, (
            "a second run exits the same way"
        )
    assert "2 rows are there already, 0 failed" in run("batch", "good.csv", "--out", "good0", *options)[1]


def test_batch_warns_about_repeated_keys(run: Run, photo_file: str, clip_folder: Path) -> None:
    write_table("pairs.csv", ["photo.png,a cat,x", "other.png,a dog,y", "other.png,two cars,x"])
    code, _, err = run(
        "batch", "pairs.csv", "--out", "JOB", "-D", "key=key", "-m", clip_folder, "--method", "nib steps=1"
    )
    assert code == 0
    assert "1 key occurs in more than one row, such as 'x' in rows 0, 2" in err
    assert json.loads(Path("JOB/manifest.json").read_text())["warnings"]


@pytest.mark.slow
@pytest.mark.parametrize("times", [1, 2, 20])
@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_batch_says_what_is_kept_if_interrupted(
    run: Run, photo_file: str, clip_folder: Path, number: signal.Signals, code: int, times: int
) -> None:
    write_table("pairs.csv", [f"photo.png,a cat and {row} dogs,{row}" for row in range(4000)])
    command = ["batch", "pairs.csv", "--out", "JOB", "-m", str(clip_folder), "--chunk-size", "4", "--batch-size", "4"]
    script = "from nibt.__main__ import main; main()"
    process = subprocess.Popen(
        [sys.executable, "-c", script, *command],
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
    )
    while process.poll() is None and len(list(Path("JOB/parts").glob("[0-9]*"))) < 3:
        time.sleep(0.02)
    for _ in range(times):
        process.send_signal(number)
        time.sleep(0.05)
    _, err = process.communicate(timeout=60)
    assert process.returncode == code, err
    assert "Traceback" not in err
    assert not list(Path("JOB").rglob(".[!n]*")), "a draft is left"
    rows = nibt.Job.open("JOB").tally()["rows"]
    assert f"interrupted; {rows} rows are kept in JOB; the same command resumes the job" in err


@pytest.mark.slow
def test_batch_prints_the_first_errors(run: Run, photo_file: str, clip_folder: Path) -> None:
    names = ["gone.png", "photo.png", "gone.png", "a.png", "b.png", "c.png"]
    write_table("pairs.csv", [f"{name},a cat,x{row}" for row, name in enumerate(names)])
    err = run("batch", "pairs.csv", "--out", "JOB", "-m", clip_folder, "--method", "nib steps=1")[2].splitlines()
    start = err.index("nibt: 5 of 6 rows failed:")
    assert err[start + 1].startswith("nibt: row 0 and 1 more: ")
    assert "gone.png" in err[start + 1]
    assert [line.split(":")[1] for line in err[start + 2 : start + 4]] == [" row 3", " row 4"]
    assert err[start + 4 :] == ["nibt: 1 other errors are in the column error of JOB"]


def test_batch_retries_a_failed_row(run: Run, photo_file: str, clip_folder: Path) -> None:
    write_table("pairs.csv", ["photo.png,a cat,x", "gone.png,a dog,y"])
    command = ("batch", "pairs.csv", "--out", "JOB", "-m", clip_folder, "--method", "nib steps=1", "--chunk-size", 1)
    assert "1 of 2 rows failed" in run(*command)[2]
    first = sorted(path.name for path in Path("JOB/parts").iterdir())
    assert "1 of 2 rows failed" in run(*command)[2]
    assert sorted(path.name for path in Path("JOB/parts").iterdir()) == first
    Path("gone.png").write_bytes(Path("other.png").read_bytes())
    assert run(*command, "--method", "gae")[0] == 2
    assert sorted(path.name for path in Path("JOB/parts").iterdir()) == first, "a rejected call removes nothing"
    code, out, err = run(*command)
    assert (code, "2 rows written, 0 failed" in out, err) == (0, True, "")
    assert [row["caption"] for row in nibt.Job.open("JOB").rows() if row["error"] is None] == ["a cat", "a dog"]
    assert nibt.Job.open("JOB").check() == []


@pytest.mark.parametrize("text", ['{"mine": true}', '{"schema": 2, "mine": true, "warnings": []}', "no JSON"])
def test_batch_keeps_a_foreign_manifest(run: Run, photo_file: str, clip_folder: Path, text: str) -> None:
    write_table("pairs.csv", ["photo.png,a cat,x"])
    Path("MINE").mkdir()
    Path("MINE/manifest.json").write_text(text)
    for model in (clip_folder, "./nosuch"):
        assert run("batch", "pairs.csv", "--out", "MINE", "-m", model, "--method", "nib steps=1")[0] == 1
        assert Path("MINE/manifest.json").read_text() == text
        assert sorted(os.listdir("MINE")) == ["manifest.json"]


def test_an_estimate_measures_a_few_rows_and_writes_nothing(run: Run, clip_folder: Path) -> None:
    Path("pairs.csv").write_text("image,caption\n" + "sample:scene,a cat\n" * 100)
    before = sorted(Path().iterdir())
    code, out, err = run("batch", "pairs.csv", "-m", clip_folder, "--method", "ones", "--estimate")
    assert code == 0, err
    text = " ".join(out.split())
    pattern = (
        r"100 rows; [\d.e-]+ s and [\d.]+k?B per row, measured here on 32 rows; all rows: about (\d+:)+\d+ and at most "
        r"[\d.]+[kM]?B"
    )
    assert re.fullmatch(pattern, text), text
    assert sorted(Path().iterdir()) == before

    code, out, _ = run("batch", "pairs.csv", "-m", clip_folder, "--method", "ones", "--estimate", "--shard", "2/8")
    assert (code, "each of 8 shards (13 rows): about" in " ".join(out.split())) == (0, True)


def test_an_estimate_says_what_it_cannot_measure(run: Run, clip_folder: Path) -> None:
    Path("few.csv").write_text("image,caption\nmissing.jpg,a cat\nsample:scene,a dog\n")
    command = ("batch", "few.csv", "-m", clip_folder, "--method", "ones", "--estimate")
    code, out, err = run(*command)
    assert (code, "an estimate needs more than 16 rows (got 2)" in out) == (0, True)
    assert "1 of the 2 rows that were measured failed" in " ".join(err.split())
    code, _, err = run(*command, "--ray", "workers=2")
    assert (code, "--estimate measures on this machine" in err) == (2, True)
