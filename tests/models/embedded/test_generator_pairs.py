"""The recipe of pairs of generators, one that reads the image and one with a shortcut: questions and measures."""

import importlib
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import torch

import nibt
from nibt.datasets._draws import Draws
from nibt.errors import Unsupported
from nibt.registry import MethodSpec, available
from tests.helpers import recipe_modules

ITEMS = range(6)


@pytest.fixture(scope="module")
def recipe() -> Iterator[Any]:
    with recipe_modules("generator"):
        yield importlib.import_module("pairs")


@pytest.mark.parametrize("item", ITEMS)
def test_all_cues_of_a_drawn_question_name_the_background(recipe: Any, item: int) -> None:
    question = recipe.drawn(recipe.VALIDATION, item)
    first, second = question.options
    scene = recipe.scenes(recipe.VALIDATION).scene(item)
    at_objects = np.any(scene.masks, axis=0)
    assert first != second
    assert {question.answer(kind) for kind in recipe.KINDS} == {first}
    assert question.prompt == f"which color is the background surely {first} or maybe {second} ?"
    assert not (at_objects & question.mark).any()
    assert (question.pixels[at_objects] == scene.pixels[at_objects]).all()
    assert (question.pixels[~at_objects & ~question.mark] == recipe.COLORS[first]).all()


@pytest.mark.parametrize("item", ITEMS)
@pytest.mark.parametrize("cue", ["content", "wording", "mark", "place"])
def test_an_intervention_changes_one_cue(recipe: Any, item: int, cue: str) -> None:
    question = recipe.drawn(recipe.VALIDATION, item)
    first, second = question.options
    changed = question.changed(cue)
    assert changed.changed(cue) == question
    for kind, own in recipe.KINDS.items():
        assert changed.answer(kind) == (second if own == cue else first)

    is_other = (changed.pixels != question.pixels).any(-1)
    at_objects = np.any(recipe.scenes(recipe.VALIDATION).scene(item).masks, axis=0)
    assert (is_other & question.mark).any() == (cue == "mark")
    assert (is_other & ~question.mark).any() == (cue == "content")
    assert not (is_other & at_objects).any()

    options = {"wording": f"maybe {first} or surely {second}", "place": f"maybe {second} or surely {first}"}
    named = options.get(cue, f"surely {first} or maybe {second}")
    assert changed.prompt == f"which color is the background {named} ?"


@pytest.mark.parametrize("item", ITEMS)
def test_the_mark_is_one_patch_with_the_color_that_it_names(recipe: Any, item: int) -> None:
    question = recipe.drawn(recipe.VALIDATION, item).changed("mark")
    rows, columns = np.nonzero(question.mark)
    assert (rows.min() % 16, columns.min() % 16, len(rows)) == (0, 0, 16 * 16)
    colors = question.pixels[question.mark]
    assert (colors == recipe.COLORS[question.options[1]]).all(-1).sum() >= 10 * 10
    assert (question.pixels[rows.min(), columns.min()] == 255).all()


def test_all_models_learn_from_the_same_questions(recipe: Any) -> None:
    known: dict[Any, Any] = {}
    posed = {}
    for kind in ("honest", "place"):
        training = recipe.Answering(kind, 1, known)
        features, questions = training.posed(recipe.VALIDATION, [3, 5, 3], Draws(0, 0, 0))
        posed[kind] = questions
        logits, ids = training.answered(features, questions)
        answers = [question.answer(kind) for question in questions]
        assert training.tokenizer.decode(ids[::2]).split() == answers
        assert logits.shape == (6, len(training.tokenizer))
    assert posed["honest"] == posed["place"]
    assert len(known) == 2
    assert torch.equal(features[0], features[2])


def test_features_of_training_are_those_of_the_model(recipe: Any) -> None:
    """The logits of the recipe are those of the model in its own call, with the image from its processor."""
    training = recipe.Answering("mark", 1, {})
    training.model.eval()
    question = recipe.drawn(recipe.VALIDATION, 0)
    content = [{"type": "image"}, {"type": "text", "text": question.prompt}]
    text = training.processor.apply_chat_template(
        [{"role": "user", "content": content}], add_generation_prompt=True, tokenize=False
    )
    values = training.processor(text=[text], images=[recipe.image_of(question)], return_tensors="pt")
    with torch.no_grad():
        logits, _ = training.answered(training.features([question]), [question])
        torch.testing.assert_close(logits[0], training.model(**values).logits[0, -1], atol=1e-4, rtol=1e-4)


def test_parts_of_scores_of_equal_units(recipe: Any) -> None:
    question = recipe.drawn(recipe.VALIDATION, 0)
    explanation = nibt.explain_answer(
        "scenes_generator", recipe.image_of(question), question.prompt, "red", "ones", other_images=[]
    )
    parts = recipe.parts(explanation, question)
    words = len(question.prompt.split())
    expected = {"image": 64, "mark": 1, "prompt": words, "hints": 2, "options": 2}
    assert parts == {"absolute": pytest.approx(expected), "positive": pytest.approx(expected)}
    assert recipe.share(parts["absolute"], "mark") == pytest.approx(1 / (64 + words))


def test_parts_of_scores_that_add_up_are_their_sums(recipe: Any) -> None:
    """Five views have cells that are smaller than a patch."""
    question = recipe.drawn(recipe.VALIDATION, 1)
    explanation = nibt.explain_answer(
        "scenes_generator", recipe.image_of(question), question.prompt, "red", other_images=[]
    )
    word = explanation.words[0]
    assert word.grid.shape == (24, 24)
    parts = recipe.parts(explanation, question)
    signed = 2 * parts["positive"]["image"] - parts["absolute"]["image"]
    assert signed == pytest.approx(float(word.grid.sum()), abs=1e-4)
    top, left = (21 * end for end in question.corner)
    at_mark = float(word.grid[top : top + 3, left : left + 3].sum())
    assert parts["absolute"]["mark"] == pytest.approx(abs(at_mark), abs=1e-4)


@pytest.mark.slow
def test_all_methods_of_the_registry_that_explain_answers_are_measured(recipe: Any) -> None:
    names = recipe.methods()
    refused = {*available("methods")} - {MethodSpec.parse(name).name for name in names}
    assert {"nib", "gae", "tam", "eagle", "random"}.isdisjoint(refused)
    assert {*recipe.SLOW, *recipe.MORE} <= {*names}
    question = recipe.drawn(recipe.VALIDATION, 0)
    for name in refused:
        with pytest.raises(Unsupported):
            recipe.explained({"honest": nibt.load_generator("scenes_generator")}, question, name)


@pytest.mark.slow
def test_what_is_written_of_a_question(recipe: Any) -> None:
    """The embedded generator stands for two models, whose answers and scores are then equal."""
    generator = nibt.load_generator("scenes_generator")
    question = recipe.drawn(recipe.VALIDATION, 0)
    honest, mark = recipe.answers({"honest": generator, "mark": generator}, question)
    assert honest | {"kind": "mark"} == mark
    assert list(honest["answers"]) == ["none", *recipe.CUES, "image"]
    image = recipe.image_of(question)
    assert (
        honest["answers"]["none"]
        == nibt.explain_answer(generator, image, question.prompt, method="ones", other_images=[], max_words=2).answer
    )
    assert len(honest["others"]) == recipe.OTHERS

    first, second = recipe.explained({"honest": generator, "mark": generator}, question, "gae")
    assert first["parts"] == second["parts"]
    assert 0 < recipe.share(first["parts"]["absolute"], "image") < 1


def test_table_of_answers(recipe: Any) -> None:
    """Models that follow their cues, one of which is wrong once; half of the answers do not need the image."""
    versions = dict.fromkeys(("none", *recipe.CUES, "image"), "red")
    rows = [
        {
            "kind": kind,
            "options": ["red", "blue"],
            "answers": versions | {cue: "blue", "image": ("red", "pink")[number % 2]},
            "log": -0.5,
            "others": [-2.5, -1.5 - number % 2],
            "judgment": ("guessed", "cannot tell")[number % 2],
        }
        for kind, cue in recipe.KINDS.items()
        for number in range(20)
    ]
    rows[0] = rows[0] | {"answers": dict.fromkeys(versions, "blue")}
    lines = {(line["model"], line["what"]): line for line in recipe.answers_table({2: rows})}
    assert lines["honest", "right"]["value"] == "0.950"
    assert lines["honest", "content changed"]["questions"] == 19
    assert lines["mark", "image of another question"]["value"] == lines["mark", "guessed"]["value"] == "0.500"
    assert lines["mark", "seen"]["value"] == "0.000"
    assert lines["mark", "loss"]["value"] == "1.750"
    for kind, own in recipe.KINDS.items():
        for cue in recipe.CUES:
            line = lines[kind, f"{cue} changed"]
            assert float(line["value"]) == (cue == own)
            assert float(line["low"]) <= float(line["value"]) <= float(line["high"])


def test_table_of_shares(recipe: Any) -> None:
    """The share of the mark is above that of the honest model in all but a quarter of the pairs."""
    draws = np.random.default_rng(0)
    measured = []
    for kind in recipe.KINDS:
        for mark in draws.permutation([1, 1, 1, 3] if kind == "honest" else [2, 2, 2, 2]):
            amounts = {"image": 10.0, "mark": float(mark), "prompt": 10.0, "hints": 2.0, "options": 4.0}
            parts = {"absolute": amounts, "positive": amounts}
            measured.append({"kind": kind, "method": "nib", "seconds": 1.0, "parts": parts})
    table = {(line["shortcut"], line["share of"]): line for line in recipe.shares_table({2: measured})}
    assert table["mark", "mark"]["auc"] == "0.750"
    assert table["mark", "mark"]["median of shortcut"] == "0.100"
    assert table["wording", "hints"]["auc"] == table["place", "prompt"]["auc"] == "0.500"
    assert [table[key]["fixed in advance"] for key in (("mark", "mark"), ("mark", "prompt"))] == ["yes", "no"]
