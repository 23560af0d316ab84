"""Tests of ``nibt answer``."""

import json
import re
from dataclasses import replace
from pathlib import Path

import pytest

from nibt.cli.console_answer import show_answers
from nibt.generators.results.answer import AnswerExplanation
from tests.bridges.test_answer_servers import PROMPT, serving
from tests.cli.test_vision_language import saved
from tests.helpers import Run, list_folder
from tests.hub import CLOSED


@pytest.fixture(scope="module")
def generator_folder(tmp_path_factory: pytest.TempPathFactory) -> str:
    return str(saved("qwen2_vl", tmp_path_factory.mktemp("generator")))


def test_answer_writes_a_page_and_json(run: Run, generator_folder: str) -> None:
    arguments = ["sample:chelsea", "a red cat", "-m", generator_folder, "--method", "nib steps=2"]
    code, out, err = run("answer", *arguments, "--answer", "two cats on the mat")
    assert code == 0, err
    assert "two cats on the mat" in out
    assert "others" in out
    assert sorted(Path(name).suffix for name in list_folder() if "." in name) == [".html", ".json"]
    result = AnswerExplanation.load(next(Path().glob("*.json")))
    assert [word.text for word in result.words] == ["two", "cats", "on", "the", "mat"]
    assert not result.written
    code, out, err = run("answer", *arguments, "--max-words", "2", "-o", "-")
    assert code == 0, err
    data = json.loads(out)
    assert data["written"]
    assert len(data["words"]) <= 2


@pytest.mark.slow
def test_frames_of_a_video_have_columns_and_a_short_name(run: Run, generator_folder: str) -> None:
    prompt = "<|vision_start|><|video_pad|><|vision_end|>a red cat"
    arguments = ["-m", generator_folder, "--method", "nib steps=2", "--answer", "two cats"]
    code, out, err = run("answer", *["sample:chelsea"] * 8, prompt, *arguments)
    assert code == 0, err
    assert "frame 1-2" in out
    (path,) = Path().glob("*.json")
    assert path.name.startswith("chelsea-and-7-more-")
    assert len(AnswerExplanation.load(path).images) == 4


def test_numbers_are_aligned_with_their_headings(
    run: Run, generator_folder: str, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ["sample:chelsea", "a red cat", "-m", generator_folder, "--method", "nib steps=16 views=1"]
    run("answer", *arguments, "--answer", "two cats on the mat", "-o", "answer.json")
    result = AnswerExplanation.load("answer.json")
    first, *others = result.words
    added = 20 / first.grid.numel()  # to the sum of the map, and to what is lost without the image
    without = {**first.without, "image": first.without["image"] - 20}
    capsys.readouterr()
    show_answers([replace(result, words=(replace(first, grid=first.grid + added, without=without), *others))])
    lines = capsys.readouterr().out.splitlines()
    heading = next(place for place, line in enumerate(lines) if line.startswith("word"))
    ends, *rows = [[number.end() for number in re.finditer(r" \S+", line)] for line in lines[heading : heading + 6]]
    assert rows == [ends] * 5


@pytest.mark.slow
def test_the_printed_row_adds_up(run: Run) -> None:
    code, out, err = run("answer", "sample:scene", "describe the picture", "-m", "scenes_generator")
    assert code == 0, err
    lines = out.splitlines()
    headings = lines[2].split()
    assert "baseline + image + prompt + earlier + joint + gap = log-prob.; baseline: with a blank" in out
    assert "note: this model knows only drawn scenes of 64 nouns" in out
    words = lines[1].split()
    assert len(words) > 3
    for word, line in zip(words, lines[3:], strict=False):
        row = dict(zip(headings, line.split(), strict=True))
        assert row["word"] == word
        parts = [float(row[name]) for name in ("baseline", "image", "prompt", "earlier", "joint", "gap")]
        assert sum(parts) == pytest.approx(float(row["log-prob."]), abs=0.04)  # seven rounded numbers


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["sample:chelsea", "a cat"], 2, "the generator is missing: give it with -m"),
        (["sample:chelsea", "a cat", "--server", "http://127.0.0.1:9/v1"], 2, "with --server, its name on the server"),
        (["sample:chelsea", "a cat", "-m", "lite"], 1, "'lite' writes no text about images"),
        (["sample:chelsea", "", "-m", "FOLDER"], 1, "the prompt must not be empty"),
        (["sample:chelsea", "sample:scene", "-m", "FOLDER"], 2, "the prompt is missing: nibt answer IMAGE... PROMPT"),
        (["none.jpg", "a cat", "-m", "FOLDER"], 1, "none.jpg"),
        (["sample:chelsea", "a cat", "-m", "FOLDER", "-o", "x.tif"], 2, "is for explanations (got answers)"),
        (["sample:chelsea", "a cat", "-m", "FOLDER", "--max-words", "0"], 2, "max_words must be between 1"),
        (["sample:chelsea", "a cat", "-m", "/nowhere/at/all"], 1, "no model '/nowhere/at/all'"),
        (
            ["sample:chelsea", "a cat", "-m", "FOLDER", "--decisive", "half"],
            2,
            "--decisive must be keep, change or correct",
        ),
        (["sample:chelsea", "a cat", "-m", "FOLDER", "--word", "a"], 2, "add --decisive, or leave it out"),
        (
            ["sample:chelsea", "a cat", "-m", "FOLDER", "--decisive", "keep", "--against", "sample:scene"],
            2,
            "--decisive is for answers about one image",
        ),
    ],
)
def test_answer_rejects_bad_arguments(
    arguments: list[str], code: int, message: str, run: Run, generator_folder: str
) -> None:
    actual, _, err = run("answer", *(generator_folder if text == "FOLDER" else text for text in arguments))
    assert actual == code, err
    assert message in err


def test_a_model_behind_a_server_is_explained(run: Run) -> None:
    with serving() as served:
        server = ["--server", f"{served.address}/v1", "-m", "toy", "--load", "image_size=32", "--load", "cells=2"]
        code, out, err = run("answer", "sample:chelsea", PROMPT, *server, "--requests", "30")
        assert code == 0, err
        assert "the model is explained as it is served" in out
        (path,) = Path().glob("*.answer.occlusion.toy.json")
        result = AnswerExplanation.load(path)
        assert result.server is not None
        assert result.server["requests"] == len(served.requests)
        assert (result.method["name"], result.model["id"]) == ("occlusion", "toy")

        code, out, err = run("answer", "sample:chelsea", PROMPT, *server, "--method", "shapley budget=8", "-o", "-")
        assert code == 0, err
        assert json.loads(out)["server"]["way"] == "grammar"


@pytest.mark.parametrize("word", ["red", "1", None])
def test_decisive_regions_are_in_files_and_printed(run: Run, word: str | None) -> None:
    with serving() as served:
        server = ["--server", f"{served.address}/v1", "-m", "toy", "--load", "image_size=64", "--load", "cells=4"]
        named = [] if word is None else ["--word", word]
        code, out, err = run("answer", "sample:chelsea", PROMPT, *server, "--decisive", "change", *named)
    assert code == 0, err
    (path,) = Path().glob("*.decisive-change*.json")
    result = AnswerExplanation.load(path)
    lacks = "no region is decisive: the image adds nothing to the log-probability"
    assert (result.decisive is None) == any(lacks in warning for warning in result.warnings)
    assert lacks in " ".join(out.split()) or result.decisive_about in out
    assert result.decisive is None or result.decisive.word == (None if word is None else 1)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--server", CLOSED, "--method", "nib"], "nib needs the weights of the model"),
        (["--server", CLOSED, "--dtype", "float16"], "--device and --dtype are for a model that is loaded"),
        (["--server", CLOSED, "--key-env", "NO_SUCH_KEY"], "the environment variable NO_SUCH_KEY must have the key"),
        (["--server", CLOSED, "--load", "generation=model"], "unknown --load option 'generation'"),
        (["--server", "localhost"], "--server must be an address such as"),
        (["--requests", "3"], "--key-env, --requests and --tokens are for a model behind a server"),
        (["--work", "W"], "--work is for a model behind a server"),
    ],
)
def test_what_a_server_does_not_take_is_refused(run: Run, arguments: list[str], message: str) -> None:
    code, _, err = run("answer", "sample:chelsea", PROMPT, "-m", "toy", *arguments)
    assert code != 0
    assert message in err
