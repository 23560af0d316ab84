"""What is wrong, late or silent elsewhere: each mistake gets a clear message before a model is loaded, or a warning."""

import inspect
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

import nibt
import tiny
from helpers import Run
from nibt.cli.options import RESERVED
from nibt.data.images import is_url
from nibt.data.pair import caption_notes
from nibt.errors import BadInput, BadOption


@pytest.fixture
def photo_file(run: Run) -> str:
    tiny.image(48, 40).pil_image.save("photo.png")
    tiny.image(40, 48, 1).pil_image.save("other.png")
    return "photo.png"


MISTAKES: dict[str, tuple[list[str], int, str]] = {
    "no label": (["photo.png", "--labels", "none.txt"], 1, "give at least two labels to rank (got 0)"),
    "one label": (["photo.png", "--labels", "one.txt"], 1, "give at least two labels to rank (got 1)"),
    "a label twice": (["photo.png", "--labels", "twice.txt"], 1, "the label 'a cat' is given 2 times"),
    "a URL": (["https://example.org/cat.jpg", "a cat"], 1, "URLs are not opened: download the image"),
    "a URL second": (["photo.png", "https://example.org/cat.jpg"], 2, "was taken for an image)"),
    "the caption first": (["a cat", "photo.png"], 2, "images come first, and there is no image 'a cat'"),
    "two images to compare": (
        ["photo.png", "--compare-image", "photo.png", "--compare-image", "other.png"],
        2,
        "--compare-image can be given once only",
    ),
    "two models": (["photo.png", "a cat", "-m", "lite", "--model=scenes"], 2, "--model can be given once only"),
    "a model twice, short": (["photo.png", "a cat", "-mlite", "-m", "scenes"], 2, "--model can be given once only"),
    "an option twice by --set": (
        ["photo.png", "a cat", "--set", "steps=3", "--set", "steps=5"],
        2,
        "--set gives steps twice",
    ),
    "a flag and --set": (["photo.png", "a cat", "--steps", "3", "--set", "steps=5"], 2, "as a flag and by --set"),
    "no option of a method": (["photo.png", "a cat", "--set", "on_progress=3"], 2, "on_progress is none"),
    "another method by --set": (["photo.png", "a cat", "--set", "method=gae"], 2, "method is none"),
    "control characters alone": (["photo.png", "\x07\x1b"], 1, "has only control characters and blanks"),
}


@pytest.mark.parametrize("case", sorted(MISTAKES))
def test_mistake_is_told_before_a_model_is_loaded(
    run: Run, photo_file: str, case: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    Path("none.txt").write_text("\n")
    Path("one.txt").write_text("a cat\n")
    Path("twice.txt").write_text("a cat\na dog\na cat\n")
    monkeypatch.setattr("nibt.cli.options.load", lambda *_, **__: pytest.fail("a model was loaded"))
    before = sorted(os.listdir())
    arguments, expected, message = MISTAKES[case]
    code, _, err = run("explain", *arguments)
    assert code == expected, err
    assert message in " ".join(err.replace("│", " ").split()), err
    assert sorted(os.listdir()) == before


def test_python_tells_labels_and_order_too(photo_file: str) -> None:
    model = tiny.model("clip")
    with pytest.raises(BadInput, match="given 2 times"):
        nibt.rank(model, photo_file, ["a cat", "a cat"])
    with pytest.raises(BadInput, match="at least two labels"):
        nibt.explain_labels("no such model", photo_file, ["a cat"])
    with pytest.raises(BadInput, match="swap them"):
        nibt.explain(model, "a cat", photo_file)
    with pytest.raises(BadInput, match="URLs are not opened"):
        nibt.explain(model, "http://example.org/x.png", "a cat")


def test_no_argument_of_python_is_an_option_of_a_method() -> None:
    for function in (nibt.explain, nibt.explain_labels, nibt.explain_interactions, nibt.batch):
        names = {
            name for name, one in inspect.signature(function).parameters.items() if one.kind is not one.VAR_KEYWORD
        }
        assert names - RESERVED == set(), function


def test_what_cannot_be_told_apart_is_said(photo_file: str) -> None:
    model = tiny.model("clip")
    with pytest.raises(BadOption, match="2 times"):
        nibt.explain(model, photo_file, "a cat", target="softmax", against=["a dog", "a dog"])
    same = nibt.explain(model, photo_file, "a cat", target="difference", against="a cat").warnings
    assert any("image side is flat" in warning for warning in same)
    with Path(photo_file).open("rb") as stream:
        nibt.explain(model, stream, "a cat", steps=1)
        with pytest.raises(BadInput, match="was read before"):
            nibt.explain(model, stream, "a cat", steps=1)
    Path("pairs.csv").write_text("image,caption,caption\nphoto.png,a cat,a dog\n")
    with pytest.raises(BadInput, match="has 2 columns 'caption'"):
        nibt.batch(model, "pairs.csv", "JOB")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("https://a.b/c.png", True),
        ("HTTP://a.b", True),
        ("s3://bucket/x.png", True),
        ("data:image/png;base64,xx", True),
        ("photo.png", False),
        ("C:\\photo.png", False),
        ("a cat: sitting", False),
        ("sample:chelsea", False),
    ],
)
def test_urls_are_told_from_paths(text: str, expected: bool) -> None:
    assert is_url(text) is expected


def test_control_characters_in_a_caption_give_a_warning(photo_file: str) -> None:
    assert caption_notes("a cat\n\ton a mat") == ()
    answer = nibt.explain(tiny.model("clip"), photo_file, "a cat\x07", steps=1)
    assert any("U+0007" in warning for warning in answer.warnings)


def test_a_flat_map_gives_a_warning(photo_file: str) -> None:
    model = tiny.model("clip")
    flat = nibt.explain(model, photo_file, "a red cat", "ones").warnings
    assert sum("side is flat" in warning for warning in flat) == 2
    assert not any("is flat" in warning for warning in nibt.explain(model, photo_file, "a red cat").warnings)


def test_grad_cam_on_words_of_lite_says_that_it_is_flat(photo_file: str) -> None:
    answer = nibt.explain(nibt.load_model("lite", image_size=64), photo_file, "a red cat", "grad_cam")
    scores = [word.score for word in answer.words]
    told = [warning for warning in answer.warnings if "map of the text side is flat" in warning]
    assert bool(told) == (len(set(scores)) == 1)


def test_a_model_in_capitals_is_suggested(run: Run, photo_file: str) -> None:
    code, _, err = run("explain", photo_file, "a cat", "-m", "LITE")
    assert (code, "Did you mean 'lite'?" in err) == (1, True)


def write_table(name: str, rows: list[str]) -> None:
    Path(name).write_text("image,caption,key\n" + "".join(f"{row}\n" for row in rows))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (b"file,text\nphoto.png,a cat\n", "has no column image, caption: it has file, text; choose by --image"),
        (b"", "has no column image, caption: it has none"),
        ("image,caption\nphoto.png,caf\u00e9\n".encode("latin-1"), "is not text in UTF-8"),
        (b"image,caption\n", "there are no rows"),
    ],
)
def test_a_start_that_fails_is_no_job(run: Run, photo_file: str, clip_folder: Path, text: bytes, message: str) -> None:
    Path("pairs.csv").write_bytes(text)
    command = ("batch", "pairs.csv", "--out", "deep/JOB", "-m", clip_folder, "--steps", 1)
    code, _, err = run(*command)
    assert code in (1, 2)
    assert message in err
    assert not Path("deep").exists()
    write_table("pairs.csv", ["photo.png,a cat,x"])
    assert run(*command)[0] == 0, "the corrected call works"


def test_a_start_without_a_model_is_no_job(run: Run, photo_file: str, clip_folder: Path) -> None:
    write_table("pairs.csv", ["photo.png,a cat,x"])
    assert run("batch", "pairs.csv", "--out", "JOB", "-m", "./nosuch")[0] == 1
    assert run("batch", "pairs.csv", "--out", "JOB", "-m", clip_folder, "--target", "softmax")[0] == 2
    assert not Path("JOB").exists()


def test_exit_codes_of_a_job(run: Run, photo_file: str, clip_folder: Path) -> None:
    write_table("good.csv", ["photo.png,a cat,x", "other.png,a dog,x"])
    write_table("some.csv", ["photo.png,a cat,x", "gone.png,a dog,y"])
    write_table("none.csv", ["gone.png,a cat,x", "gone.png,a dog,y"])
    options = ("-m", clip_folder, "--steps", 1)
    for strict in ((), ("--strict",)):
        code, out, err = run("batch", "good.csv", "--out", f"good{len(strict)}", *options, *strict)
        assert (code, "2 rows written, 0 failed" in out, "failed" in err) == (0, True, False)
        code, out, err = run("batch", "some.csv", "--out", f"some{len(strict)}", *options, *strict)
        assert (code, "1 of 2 rows failed" in err) == (len(strict), True)
        code, out, err = run("batch", "none.csv", "--out", f"none{len(strict)}", *options, *strict)
        assert (code, "2 of 2 rows failed" in err) == (1, True)
        assert run("batch", "none.csv", "--out", f"none{len(strict)}", *options, *strict)[0] == 1, "again"


def test_keys_that_stand_twice_give_a_warning(run: Run, photo_file: str, clip_folder: Path) -> None:
    write_table("pairs.csv", ["photo.png,a cat,x", "other.png,a dog,y", "other.png,two cars,x"])
    code, _, err = run("batch", "pairs.csv", "--out", "JOB", "--key", "key", "-m", clip_folder, "--steps", 1)
    assert code == 0
    assert "1 key occurs in more than one row, the first, 'x', in rows 0, 2" in err
    assert json.loads(Path("JOB/job.json").read_text())["warnings"]


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_an_interrupted_job_says_what_is_kept(
    run: Run, photo_file: str, clip_folder: Path, number: signal.Signals, code: int
) -> None:
    write_table("pairs.csv", [f"photo.png,a cat and {row} dogs,{row}" for row in range(400)])
    command = ["batch", "pairs.csv", "--out", "JOB", "-m", str(clip_folder), "--chunk-size", "4", "--batch-size", "4"]
    script = "from nibt.cli import main; main()"
    process = subprocess.Popen(
        [sys.executable, "-c", script, *command],
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
    )
    while process.poll() is None and len(list(Path("JOB/parts").glob("[0-9]*"))) < 3:
        time.sleep(0.02)
    process.send_signal(number)
    _, err = process.communicate(timeout=60)
    assert process.returncode == code, err
    assert "Traceback" not in err
    rows = nibt.Job.open("JOB").tally()["rows"]
    assert f"interrupted; {rows} rows are kept in JOB; the same command resumes the job" in err


def test_a_failed_row_is_tried_again_when_its_picture_is_there(run: Run, photo_file: str, clip_folder: Path) -> None:
    write_table("pairs.csv", ["photo.png,a cat,x", "gone.png,a dog,y"])
    command = ("batch", "pairs.csv", "--out", "JOB", "-m", clip_folder, "--steps", 1, "--chunk-size", 1)
    assert "1 of 2 rows failed" in run(*command)[2]
    first = sorted(path.name for path in Path("JOB/parts").iterdir())
    assert "1 of 2 rows failed" in run(*command)[2]
    assert sorted(path.name for path in Path("JOB/parts").iterdir()) == first
    Path("gone.png").write_bytes(Path("other.png").read_bytes())
    assert run(*command, "--method", "gae")[0] == 2
    assert sorted(path.name for path in Path("JOB/parts").iterdir()) == first, "a refusal removes nothing"
    code, out, err = run(*command)
    assert (code, "2 rows written, 0 failed" in out, err) == (0, True, "")
    assert [row["caption"] for row in nibt.Job.open("JOB").rows() if row["error"] is None] == ["a cat", "a dog"]
    assert nibt.Job.open("JOB").check() == []


@pytest.mark.parametrize("text", ['{"mine": true}', '{"schema": 2, "mine": true, "warnings": []}', "no JSON"])
def test_a_manifest_of_somebody_else_is_kept(run: Run, photo_file: str, clip_folder: Path, text: str) -> None:
    write_table("pairs.csv", ["photo.png,a cat,x"])
    Path("MINE").mkdir()
    Path("MINE/job.json").write_text(text)
    for model in (clip_folder, "./nosuch"):
        assert run("batch", "pairs.csv", "--out", "MINE", "-m", model, "--steps", 1)[0] == 1
        assert Path("MINE/job.json").read_text() == text
        assert sorted(os.listdir("MINE")) == ["job.json"]
