"""Mistakes that get a clear message in Python, and results that get a warning."""

import inspect
from pathlib import Path

import pytest

import nibt
from nibt.cli.options import RESERVED
from nibt.errors import BadInput, BadOption
from tests import tiny


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
