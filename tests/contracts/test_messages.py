"""Mistakes that get a clear message in Python, and results that get a warning."""

import inspect
from dataclasses import fields
from pathlib import Path

import pytest

import nibt
from nibt.errors import BadInput
from nibt.registry import available, find
from tests import tiny
from tests.helpers import is_rough


def test_python_functions_reject_bad_labels_and_order(photo_file: str) -> None:
    model = tiny.model("clip")
    with pytest.raises(BadInput, match="occurs twice"):
        nibt.rank(model, photo_file, ["a cat", "a cat"])
    with pytest.raises(BadInput, match="at least two texts"):
        nibt.explain_ranking("no such model", photo_file, ["a cat"])
    with pytest.raises(BadInput, match="swap them"):
        nibt.explain(model, "a cat", photo_file)
    with pytest.raises(BadInput, match="an image must be a local file"):
        nibt.explain(model, "http://example.org/x.png", "a cat")


def test_arguments_of_functions_are_no_options_of_methods() -> None:
    for function in (nibt.explain, nibt.explain_ranking, nibt.regions, nibt.batch):
        options = {field.name for name in available("methods") for field in fields(find("methods", name))}
        shared = options & set(inspect.signature(function).parameters)
        if function is nibt.explain:  # which names some options, and passes them on
            shared -= {"views", "layer", "steps", "quadrature", "baseline", "tolerance", "amounts"}
        assert shared <= {"seed", "pairs"}, function  # pairs of fixlip: in the text of the method


def test_explain_warns_about_ambiguous_input(photo_file: str) -> None:
    model = tiny.model("clip")
    with pytest.raises(BadInput, match="2 times"):
        nibt.explain(model, photo_file, "a cat", target="softmax", against=["a dog", "a dog"])
    for target in ("difference", "softmax", "centered"):
        with pytest.raises(BadInput, match="'a cat' is compared with itself"):
            nibt.explain(model, photo_file, "a cat", target=target, against="a cat")
    nibt.explain(model, photo_file, "a cat", "gae", target="centered", against=["a cat", "a dog"])  # a mean of labels
    with Path(photo_file).open("rb") as stream:
        nibt.explain(model, stream, "a cat", steps=1)
        with pytest.raises(BadInput, match="was read before"):
            nibt.explain(model, stream, "a cat", steps=1)
    Path("pairs.csv").write_text("image,caption,caption\nphoto.png,a cat,a dog\n")
    with pytest.raises(BadInput, match="has 2 columns 'caption'"):
        nibt.batch(model, "pairs.csv", "JOB")


def test_explain_warns_about_a_flat_map(photo_file: str) -> None:
    model = tiny.model("clip")
    flat = nibt.explain(model, photo_file, "a red cat", "ones").warnings
    assert sum("side is flat" in warning for warning in flat) == 2
    assert not any("is flat" in warning for warning in nibt.explain(model, photo_file, "a red cat").warnings)


def test_grad_cam_of_lite_warns_about_flat_words(photo_file: str) -> None:
    answer = nibt.explain(nibt.load_model("lite", image_size=64), photo_file, "a red cat", "grad_cam")
    scores = [word.score for word in answer.words]
    warnings = [warning for warning in answer.warnings if "map of the text side is flat" in warning]
    assert bool(warnings) == (len(set(scores)) == 1)


def test_a_caption_of_one_word_is_not_called_flat() -> None:
    """Its tokens share the word's score, but a map of one unit says nothing flat."""
    answer = nibt.explain(tiny.model("bert"), tiny.image(), "zebra", "occlusion")
    assert len(answer.words) == 1 < int(answer.text.units.explained.sum())
    assert "text side is flat" not in str(answer.warnings)


def test_a_missed_tolerance_says_its_share_and_what_the_scores_are() -> None:
    rough = {"baseline": "zero", "quadrature": "riemann", "steps": 1, "layer": 1}
    answer = nibt.explain(tiny.model("clip"), tiny.image(), "a cat", tolerance=1e-9, **rough)
    for name, side in answer.sides.items():
        gap = float((side.path.gap - side.path.special_tokens).abs())
        share = gap / float((side.path.at_input - side.path.at_baseline).abs())
        text = str(answer.warnings)
        assert f"special tokens included, miss the change of the score by {gap:.2g} ({share:.2g} of the change" in text
        rough_side = f"scores of the {name} side are relative" in text or f"scores of the {name} side show" in text
        assert rough_side == is_rough(side.path)
