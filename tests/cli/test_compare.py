"""Tests of ``nibt explain`` with ``--compare``."""

import json
import os
from pathlib import Path

import numpy as np
import pytest

from nibt.cli import main
from tests import tiny
from tests.helpers import Run


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path, clip_folder: Path) -> Run:
    """``nibt explain`` with a tiny model, in a folder with two images; returns exit code, output and errors."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "200")
    for name, image in zip(("one.png", "two.png"), tiny.IMAGES, strict=False):
        image.pil_image.save(name)

    def command(*arguments: str) -> tuple[int, str, str]:
        with pytest.raises(SystemExit) as left:
            main(["explain", *arguments, "-m", str(clip_folder)])
        output = capsys.readouterr()
        return int(left.value.code or 0), output.out, output.err

    return command


def written() -> list[str]:
    return sorted(set(os.listdir()) - {"one.png", "two.png"})


def test_compare_of_images_writes_an_image_and_a_json_file(run: Run) -> None:
    code, out, err = run("one.png", "--compare", "two.png")
    assert code == 0, err
    assert written() == ["one-two.clip.json", "one-two.clip.png"]
    data = json.loads(Path("one-two.clip.json").read_text())
    assert data["sides"]["first"]["source"] == "one.png"
    assert np.array(data["sides"]["second"]["grid"]).shape == (12, 12)
    assert out.startswith("one.png with two.png  similarity")
    assert [line.split()[0] for line in out.splitlines()[2:4]] == ["first", "second"]


def test_compare_of_captions_writes_a_file_for_each_pair(run: Run) -> None:
    code, out, err = run("a red cat", "two cars", "--compare", "a cat")
    assert code == 0, err
    assert written() == ["a-red-cat-a-cat.clip.png", "explanations.clip.json", "two-cars-a-cat.clip.png"]
    data = json.loads(Path("explanations.clip.json").read_text())
    assert [entry["sides"]["first"]["caption"] for entry in data] == ["a red cat", "two cars"]
    assert "a red cat with a cat" in out
    assert "cars +" in out or "cars -" in out


def test_compare_of_captions_takes_a_long_caption(run: Run) -> None:
    code, _, err = run("cat " * 90, "--compare", "a cat", "-o", "-")
    assert code == 0, err


def test_compare_of_images_writes_where_the_options_say(run: Run) -> None:
    code, out, _ = run("one.png", "sample:chelsea", "--compare", "two.png", "-o", "-")
    assert code == 0
    assert [entry["sides"]["first"]["source"] for entry in json.loads(out)] == ["one.png", "sample:chelsea"]
    assert written() == []
    code, out, _ = run(
        "one.png",
        *("--compare", "two.png", "-o", "x.jpg", "-o", "y.json", "-q", "--draw", "positive_only=true"),
        "--target",
        "difference",
        "--against",
        "sample:coffee",
    )
    assert (code, out, written()) == (0, "", ["x.jpg", "y.json"])


BAD = {
    "labels": (["one.png", "--compare", "two.png", "--labels", "l.txt"], 2, "exclude each other"),
    "map": (["one.png", "--compare", "two.png", "-o", "m.map.png"], 2, "is for explanations (got comparisons)"),
    "mask": (["a cat", "--compare", "a dog", "-o", "m.mask.png"], 2, "is for explanations (got comparisons)"),
    "boxes": (["one.png", "--compare", "two.png", "-o", "b.coco.json"], 2, "is for explanations (got comparisons)"),
    "caption": (["one.png", "a cat", "--compare", "two.png"], 2, "takes two images or two captions (got 'a cat'"),
    "image": (["one.png", "--compare", "a cat"], 2, "takes two images or two captions (got 'one.png'"),
    "no file": (["one.png", "--compare", "none.png"], 1, "no such file"),
    "blank": (["a cat", "--compare", " "], 1, "blank"),
    "contrast": (["a cat", "--compare", "a dog", "--target", "softmax"], 2, "give captions in against"),
}


@pytest.mark.parametrize("case", sorted(BAD))
def test_compare_reports_a_mistake_in_one_line(run: Run, case: str) -> None:
    arguments, expected, text = BAD[case]
    code, out, err = run(*arguments)
    assert code == expected, err
    assert text in " ".join(err.split()), err
    assert "Traceback" not in out + err
    assert written() == []


def test_compare_reads_inputs_before_loading_the_model(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    def loaded(*_: object, **__: object) -> None:
        raise AssertionError("the model was loaded")

    monkeypatch.setattr("nibt.models._loading.load_model", loaded)
    assert run("one.png", "--compare", "none.png")[0] == 1
    assert run("a cat", "--compare", "")[0] == 2
