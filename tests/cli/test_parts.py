"""Tests of ``nibt.cli.commands.parts``."""

import json
from pathlib import Path

import pytest

from nibt.results.parts import Parts
from nibt.results.word_parts import WordParts
from tests.helpers import Run

FEW = ("--count", "12", "--parts", "3")


@pytest.mark.slow
def test_parts_writes_a_page_and_a_json_file(run: Run) -> None:
    Path("names.txt").write_text("cat\ndog\n\ntree\n")
    code, out, err = run("parts", "scenes", "-m", "scenes", *FEW, "--names", "names.txt")
    assert code == 0, err
    assert "wrote parts-scenes-scenes.count-12.parts-3.html, parts-scenes-scenes.count-12.parts-3.json" in out
    parts = Parts.load("parts-scenes-scenes.count-12.parts-3.json")
    assert parts.data["dataset"] == "scenes"
    assert parts.data["pairs"] == 12
    assert parts.count == 3
    assert {text for part in parts.parts for text, _ in part.nearest} <= {"cat", "dog", "tree"}
    for part in parts.parts:
        assert part.verdict in out
        assert part.where in out
    assert Path("parts-scenes-scenes.count-12.parts-3.html").read_text().startswith("<!doctype html>")


@pytest.mark.slow
def test_parts_prints_json(run: Run) -> None:
    code, out, err = run("parts", "-m", "scenes", *FEW, "-o", "-", "-o", "x.json")
    assert code == 0, err
    data = json.loads(out)
    assert data["kind"] == "parts"
    assert {**json.loads(Path("x.json").read_text()), "signature": ""} == {**data, "signature": ""}


@pytest.mark.slow
def test_parts_of_captions(run: Run) -> None:
    code, out, err = run("parts", "scenes", "-m", "scenes", "--side", "text", *FEW)
    assert code == 0, err
    name = "parts-scenes-scenes.text.count-12.parts-3"
    assert f"wrote {name}.html, {name}.json" in out
    parts = WordParts.load(f"{name}.json")
    for part in parts.parts:
        assert part.verdict in out
        assert part.words[0].word in out

    code, out, err = run("parts", "-m", "scenes", "--side", "text", "--names", "names.txt")
    assert code == 2
    assert "--names has no effect on --side text" in " ".join(err.split())


@pytest.fixture
def job(run: Run, clip_folder: Path, job_table: Path) -> str:
    code, _, err = run("batch", job_table, "-m", clip_folder, "--method", "gae", "--out", "job")
    assert code == 0, err
    return "job"


def test_parts_of_a_job_are_from_its_maps(
    run: Run, job: str, clip_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def never(*arguments: object) -> None:
        raise AssertionError("a map is computed again")

    monkeypatch.setattr("nibt.evaluation.parts.asked.maps", never)
    code, out, err = run("parts", job, "-m", clip_folder, "--parts", "2", "--count", "8", "-o", "x.json", "-q")
    assert code == 0, err + out
    parts = Parts.load("x.json")
    assert (parts.data["job"], parts.data["pairs"], parts.method) == ("job", 8, "gae")
    assert not Path("x.json.work").exists()


def test_parts_of_captions_of_a_job_are_from_its_scores(run: Run, job: str, clip_folder: Path) -> None:
    code, out, err = run("parts", job, "-m", clip_folder, "--side", "text", "--count", "8", "-o", "x.json", "-q")
    assert code == 0, err + out
    parts = WordParts.load("x.json")
    assert (parts.data["job"], parts.data["pairs"], parts.method) == ("job", 8, "gae")


@pytest.mark.parametrize(
    ("options", "code", "message"),
    [
        pytest.param(["--method", "nib"], 2, "the maps are those of the job in job: leave --method out", id="method"),
        pytest.param(["-D", "split=val"], 2, "the pairs are those of the job in job: leave -D out", id="data option"),
    ],
)
def test_parts_of_a_job_reject_other_requests(
    run: Run, job: str, clip_folder: Path, options: list[str], code: int, message: str
) -> None:
    actual, out, err = run("parts", job, "-m", clip_folder, "-o", "x.json", *options)
    assert actual == code, err
    assert message in " ".join(err.split())
    assert "Traceback" not in out + err
    assert not Path("x.json").exists()


def test_parts_of_a_job_of_another_model_are_refused(run: Run, job: str) -> None:
    code, out, err = run("parts", job, "-m", "scenes", "-o", "x.json")
    assert code == 1, out
    assert "with another weights_hash than the model: give that model" in " ".join(err.split())


def test_parts_that_are_stopped_keep_their_work(
    run: Run, job: str, clip_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    arguments = ("parts", job, "-m", clip_folder, "--parts", "2", "-o", "x.json", "-q")

    def interrupt(*arguments: object, **options: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("nibt.evaluation.parts.gallery.uri", interrupt)
        code, _, err = run(*arguments)
    assert code == 130
    assert "finished work is kept in x.json.work; the same command goes on" in err
    assert run(*arguments)[0] == 0
    assert Path("x.json").exists()
    assert not Path("x.json.work").exists()


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["scenes", "--count", "1"], 1, "two different images"),
        (["scenes", "--count", "4", "--parts", "0"], 2, "parts must be between 1 and 100"),
        (["scenes", "--count", "4", "--layer", "40"], 2, "layer must be between 0 and"),
        (["scenes", "--method", "nibb"], 2, "Did you mean 'nib'"),
        (["scenes", "-o", "x.png"], 2, "(got"),
        (["scenes", "-o", "x.txt"], 2, "in the name of a format, such as .html, .json (got '.txt')"),
        (["scenes", "--names", "nowhere.txt"], 1, "cannot read the names in 'nowhere.txt'"),
        (["scenes", "--names", "one.txt"], 1, "at least two different texts, one per line (got 1)"),
        (["coco"], 2, "give coco:FOLDER"),
    ],
)
def test_parts_rejects_bad_arguments(run: Run, arguments: list[str], code: int, message: str) -> None:
    Path("one.txt").write_text("cat\n")
    actual, out, err = run("parts", *arguments, "-m", "scenes")
    assert actual == code, err
    assert message in " ".join(err.split())
    assert "Traceback" not in out + err
    assert not list(Path().glob("*.html"))
