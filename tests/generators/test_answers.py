"""Tests of ``nibt.generators.explain``: explanations of the words of answers."""

from dataclasses import replace
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import nibt
from nibt.core.side import Side
from nibt.data.images import read_image
from nibt.errors import BadInput, BadOption, CannotLoad, NibtError, Unsupported
from nibt.generators.answers import AnswerTokens, Generator, Prompted
from nibt.generators.forced import ForcedAnswer
from nibt.generators.loading import load_generator
from nibt.generators.results.answer import AnswerExplanation
from nibt.models._inputs import Cut
from nibt.registry import available, find
from nibt.types import SOURCES
from tests.shared_models import shared
from tests.suites import few
from tests.tiny_vision_language import built

PROMPT, ANSWER = "the red cat on a mat", "two small cats on the mat"


@shared
def generator(kind: str) -> Generator:
    """Return the small random generator of a kind that all tests share: a test must not change it."""
    plain = built(kind)
    return load_generator(plain.module, processor=plain.processor)


def explained(**options: Any) -> AnswerExplanation:
    return nibt.explain_answer(
        generator("qwen2_vl"), "sample:chelsea", PROMPT, ANSWER, **{"other_images": ["sample:coffee"], **options}
    )


def test_shares_add_up_to_the_change_of_the_log_probability() -> None:
    explanation = explained(steps=64, quadrature="midpoint", views=1)
    assert [word.text for word in explanation.words] == ANSWER.split()
    assert explanation.prompt_words == tuple(PROMPT.split())
    for word in explanation.words:
        assert sum(word.shares.values()) + word.gap == pytest.approx(word.value - word.at_blank, abs=1e-4)
        assert word.value == pytest.approx(word.log_probability, abs=1e-4)
        assert word.without["image"] == pytest.approx(word.with_blank_image, abs=1e-4)
        assert abs(word.special) < 1e-4
        assert abs(word.gap) < 0.1 * sum(map(abs, word.changes.values())) + 0.05
    assert float(explanation.words[0].earlier.numel()) == 0


def test_log_probabilities_are_those_of_the_model() -> None:
    model = generator("qwen2_vl")
    tower, prompted = model.answers, Prompted(read_image("sample:chelsea"), PROMPT)
    answer = tower.read(prompted, ANSWER)
    logs = ForcedAnswer(model, tower, prompted, answer).logs(prompted.image)
    values = tower._prepared(prompted)  # pyright: ignore
    inputs = dict(values) | {"input_ids": torch.cat([values["input_ids"], torch.tensor([[*answer.ids]])], 1)}
    inputs["attention_mask"] = torch.ones_like(inputs["input_ids"])
    inputs["mm_token_type_ids"] = torch.cat([values["mm_token_type_ids"], torch.zeros(1, len(answer.ids)).long()], 1)
    with torch.no_grad():
        expected = built("qwen2_vl").module(**inputs).logits[0, -len(answer.ids) - 1 : -1].log_softmax(-1)
    assert torch.allclose(logs, expected, atol=1e-4)


def test_written_answer_has_the_most_probable_token_at_each_place() -> None:
    model = generator("qwen2_vl")
    prompted = Prompted(read_image("sample:chelsea"), PROMPT)
    answer = model.answers.write(prompted, 4)
    logs = ForcedAnswer(model, model.answers, prompted, answer).logs(prompted.image)
    assert logs.argmax(-1).tolist() == list(answer.ids)
    assert len(answer.words) <= 4


def test_a_blank_image_has_a_map_of_zeros() -> None:
    model = generator("qwen2_vl")
    tower, prompted = model.answers.narrowing(["image"]), Prompted(read_image("sample:chelsea"), PROMPT)
    side = ForcedAnswer(model, tower, prompted, tower.read(prompted, ANSWER)).side([1], None, None)
    inputs = tower.blank_inputs(side.inputs)
    blank = type(side)(model, tower.trace(inputs), side.score)
    method = find("methods", "nib").configured(tower, "default", {}, {})
    assert method(blank).scores.abs().max() < 1e-6


@pytest.mark.slow
def test_words_do_not_depend_on_their_batch() -> None:
    one, three = (explained(batch_size=size, steps=3) for size in (1, 3))
    for alone, together in zip(one.words, three.words, strict=True):
        assert torch.allclose(alone.grid, together.grid, atol=1e-5)
        assert torch.allclose(alone.prompt, together.prompt, atol=1e-5)
        assert torch.allclose(alone.earlier, together.earlier, atol=1e-5)


def test_only_what_is_narrowed_has_scores() -> None:
    image = explained(narrow="image", steps=3)
    assert all(word.prompt.abs().max() == 0 for word in image.words)
    assert all(list(word.without) == ["image"] for word in image.words)
    words = explained(narrow=["earlier", "prompt"], steps=3)
    assert all(word.grid.abs().max() == 0 for word in words.words)
    assert words.target["options"]["narrow"] == ["prompt", "earlier"]


@pytest.mark.slow
def test_against_explains_the_difference_of_two_logits() -> None:
    plain, contrast = explained(steps=3), explained(steps=3, against="car")
    same = explained(steps=3, against="small")
    assert contrast.target["name"] == "logit_difference"
    assert contrast.words[1].value != pytest.approx(plain.words[1].value)
    assert same.words[1].value == pytest.approx(0, abs=1e-5)
    assert same.words[1].grid.abs().max() < 1e-5
    assert "'small' has scores of 0" in str(same.warnings)
    best = explained(steps=3, against="runner-up")
    assert max(word.value for word in best.words) < max(word.value for word in contrast.words) + 20


@pytest.mark.parametrize(
    "method",
    few(["occlusion", "gae", "logit_lens", "tam", "eagle segments=3", "grad_cam layer=1", "random"], ["gae", "random"]),
)
def test_methods_explain_answers(method: str) -> None:
    explanation = explained(method=method)
    assert all(bool(word.grid.isfinite().all()) for word in explanation.words)
    assert any(float(word.grid.abs().max()) > 0 for word in explanation.words)


def test_occlusion_is_the_drop_without_a_patch() -> None:
    model = generator("qwen2_vl")
    explanation = explained(method="occlusion", narrow="image")
    word = explanation.words[2]
    assert float(word.grid.sum()) != 0
    assert model.answers.narrowed == frozenset(SOURCES)


def test_json_round_trip(tmp_path: Any) -> None:
    explanation = explained(steps=3)
    path = tmp_path / "answer.json"
    explanation.save(path)
    assert AnswerExplanation.load(path).to_json() == explanation.to_json()
    explanation.save(tmp_path / "answer.html")
    page = (tmp_path / "answer.html").read_text()
    assert "What each word took from the image" in page
    assert explanation.heatmap("small").shape == explanation.size[::-1]


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"prompt": "  "}, BadInput, "the prompt must not be empty"),
        ({"answer": ""}, BadInput, "the answer must not be empty"),
        ({"narrow": "pixels"}, NibtError, "unknown source 'pixels'"),
        ({"narrow": []}, BadOption, "narrow must name at least one of image, prompt, earlier"),
        ({"layer": 99}, BadOption, "layer must be between 0 and 4"),
        ({"max_words": 0}, BadOption, "max_words must be between 1"),
        ({"answer": "cat " * 400}, BadInput, "tokens .got 4"),
        ({"method": "clip_surgery"}, Unsupported, "a model that compares images with captions"),
        ({"baseline": "mean"}, Unsupported, "a model that compares images with captions"),
    ],
)
def test_rejects_bad_input(options: dict[str, Any], error: type[NibtError], message: str) -> None:
    arguments: dict[str, Any] = {"image": "sample:chelsea", "prompt": PROMPT, "answer": ANSWER, "other_images": []}
    with pytest.raises(error, match=message):
        nibt.explain_answer(generator("qwen2_vl"), **{**arguments, **options})


def test_a_dual_encoder_writes_no_answer() -> None:
    with pytest.raises(CannotLoad, match="'lite' writes no text about images"):
        nibt.explain_answer("lite", "sample:chelsea", PROMPT)


def test_one_other_image_cannot_tell_what_was_seen() -> None:
    question = "scenes_generator", "sample:scene", "describe the picture"
    note = "cannot be told from one other image: give several as other_images"
    one, two = ["sample:chelsea"], ["sample:chelsea", "sample:coffee"]
    for others, is_said in ((one, True), (two, False), ([], False)):
        answer = nibt.explain_answer(*question, method="ones", other_images=others)
        assert any(note in text for text in answer.warnings) == is_said
    with pytest.raises(BadInput, match="other_images must be other images"):
        nibt.explain_answer(*question, method="ones", other_images=["sample:scene"])


def test_an_answer_that_is_cut_has_a_note() -> None:
    question = "scenes_generator", "sample:scene", "describe the picture"
    whole = nibt.explain_answer(*question, method="ones", other_images=[])
    count = len(whole.words)
    assert count > 2
    assert not any("writes more" in text for text in whole.warnings)
    exact = nibt.explain_answer(*question, method="ones", other_images=[], max_words=count)
    assert not any("writes more" in text for text in exact.warnings)
    for most, words in ((1, "this word"), (2, "these 2 words")):
        cut = nibt.explain_answer(*question, method="ones", other_images=[], max_words=most)
        assert any(text.startswith(f"the model writes more than {words}: ") for text in cut.warnings)
        given = nibt.explain_answer(*question, cut.answer, method="ones", other_images=[])
        assert not any("writes more" in text for text in given.warnings)


def test_the_model_is_not_changed() -> None:
    plain = built("qwen2_vl")
    before = {name: tensor.clone() for name, tensor in plain.module.state_dict().items()}
    attributes = {name: set(vars(module)) for name, module in plain.module.named_modules()}
    loaded = load_generator(plain.module, processor=plain.processor)
    nibt.explain_answer(loaded, "sample:chelsea", PROMPT, other_images=[], steps=2, max_words=3)
    assert all(torch.equal(before[name], tensor) for name, tensor in plain.module.state_dict().items())
    assert {name: set(vars(module)) for name, module in plain.module.named_modules()} == attributes
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in plain.module.modules())
    assert plain.module.get_submodule("model").rope_deltas is None


@pytest.mark.parametrize("method", few(["shapley", "banzhaf", "rise", "occlusion"], ["shapley", "occlusion"]))
def test_only_units_of_the_source_are_removed(method: str) -> None:
    options = {"rise": {"masks": 20}, "occlusion": {}}.get(method, {"budget": 40})
    explanation = explained(method=method, **options)
    first, second = explanation.words[:2]
    assert first.earlier.shape == (0,)
    assert second.earlier.shape == (1,)
    assert all(float(scores.abs().max()) > 0 for scores in (second.grid, second.prompt, second.earlier))
    if method == "shapley":
        for word in explanation.words:
            assert float(word.grid.sum()) == pytest.approx(word.value - word.without["image"], abs=1e-3)
            assert float(word.prompt.sum()) == pytest.approx(word.value - word.without["prompt"], abs=1e-3)
            assert float(word.earlier.sum()) == pytest.approx(word.value - word.without["earlier"], abs=1e-3)


def test_a_picture_has_a_map_for_each_word() -> None:
    explanation = explained(steps=2)
    picture = nibt.draw(explanation)
    first, second, *others = explanation.words
    moved = replace(explanation, words=(first, replace(second, grid=-second.grid), *others))
    changed = np.asarray(nibt.draw(moved)) != np.asarray(picture)
    places = np.nonzero(changed.any(-1).any(0))[0]
    assert places.max() - places.min() < picture.width / 4  # one tile of five


@pytest.mark.slow
def test_segments_of_the_image_add_up() -> None:
    explanation = nibt.explain_answer(
        "scenes_generator", "sample:scene", "what is left of the house ?", method="shapley units=segments budget=64"
    )
    word = explanation.words[0]
    assert float(word.grid.sum()) == pytest.approx(word.value - word.without["image"], abs=1e-3)
    assert word.grid.numel() > 64


@pytest.mark.parametrize(("alone", "sign"), [(-9.0, -1), (-1.0, 1)], ids=["both are needed", "one is enough"])
def test_sign_of_interactions_is_that_of_the_documents(alone: float, sign: int) -> None:
    word = explained(steps=4, views=1).words[0]
    sources = ("image", "prompt")
    known = replace(word, value=-1.0, at_blank=-9.0, without=dict.fromkeys(sources, alone))
    assert np.sign(known.shares["joint"]) == sign


@pytest.mark.slow
def test_scores_without_a_unit_are_named() -> None:
    attention, path = explained(method="gae"), explained(steps=16, views=1)
    assert any("compare only their order" in warning for warning in attention.warnings)
    assert list(attention.columns) == ["log-prob.", "blank", "others"]
    numbers = ["baseline", "image", "prompt", "earlier", "joint", "gap"]
    assert list(path.columns) == ["log-prob.", "blank", "others", *numbers]
    for place, word in enumerate(path.words):
        assert sum(path.columns[name][place] for name in numbers) == pytest.approx(word.value, abs=1e-4)
    contrast = explained(steps=16, views=1, against="runner-up")
    assert next(iter(contrast.columns)) == "difference"
    assert len(contrast.alternatives) == len(contrast.words)


@pytest.mark.parametrize(
    ("prompt", "options"),
    few(
        product(
            ["describe the picture", "what is left of the house ?"],
            [{}, {"views": 1}, {"views": 2}, {"views": 5}, {"quadrature": "midpoint", "steps": 8}],
        ),
        [("what is left of the house ?", {}), ("what is left of the house ?", {"views": 2})],
    ),
)
def test_the_row_of_a_word_adds_up_to_the_change_of_the_image_that_is_shown(
    prompt: str, options: dict[str, Any]
) -> None:
    explanation = nibt.explain_answer(
        "scenes_generator", "sample:scene", prompt, narrow="image", other_images=[], **options
    )
    assert list(explanation.columns) == ["log-prob.", "blank", "image", "gap"]
    for place, word in enumerate(explanation.words):
        row = {name: values[place] for name, values in explanation.columns.items()}
        change = row["log-prob."] - row["blank"]
        noted = any("add up" in note and repr(word.text) in note for note in explanation.warnings)
        assert noted or abs(change - row["image"]) <= 0.1 * max(abs(change), 0.01)
        assert row["blank"] + row["image"] + row["gap"] == pytest.approx(row["log-prob."], abs=1e-4)
        assert row["image"] == pytest.approx(float(word.grid.sum()), abs=1e-6)
        assert word.shares["joint"] == 0
    assert explanation.equation == "blank + image + gap = log-prob."


@pytest.mark.slow
def test_views_add_details_and_leave_the_sums() -> None:
    ask = "scenes_generator", "sample:scene", "describe the picture"
    three, one = (nibt.explain_answer(*ask, narrow="image", other_images=[], views=views) for views in (3, 1))
    for word, plain in zip(three.words, one.words, strict=True):
        assert plain.grid.shape[0] * 3 == word.grid.shape[0]
        assert float(word.grid.sum()) == pytest.approx(float(plain.grid.sum()), abs=1e-4)
        assert word.gap == pytest.approx(plain.gap, abs=1e-4)


def _answered(model: Generator) -> tuple[Prompted, AnswerTokens]:
    prompted = Prompted(read_image("sample:chelsea"), PROMPT)
    return prompted, model.answers.read(prompted, ANSWER)


def test_scores_that_diverge_are_an_error() -> None:
    with pytest.raises(BadOption, match="diverge along a path from baseline=zero; use baseline=blank"):
        nibt.explain_answer("scenes_generator", "sample:scene", "is there a cat ?", method="nib baseline=zero")


@pytest.mark.slow
def test_rows_that_miss_their_change_are_named_with_the_reason() -> None:
    cut = explained(layer=3, tolerance=0.05, views=1)
    assert any("other tokens have read the sources below this layer" in note for note in cut.warnings)
    zero = explained(baseline="zero", layer=0, tolerance=0.05, views=1)
    assert any("they start at baseline=zero, not at a blank image" in note for note in zero.warnings)
    few = explained(quadrature="riemann", steps=1, views=1)
    assert any("do not add up to the change" in note and "set a tolerance" in note for note in few.warnings)
    for explanation in (cut, zero, few):
        (note,) = [note for note in explanation.warnings if "do not add up to the change" in note]
        for word in explanation.words:
            assert (repr(word.text) in note) == any(
                each.misses(0.05 if explanation is not few else 0.1)
                for each in explanation.words
                if each.text == word.text
            )


def test_the_embedded_generator_states_its_domain_with_each_answer(tmp_path: Any) -> None:
    for image in ("sample:chelsea", "sample:scene"):
        explanation = nibt.explain_answer(
            "scenes_generator", image, "describe the picture", "a cat", method="random", other_images=[]
        )
        assert explanation.warnings[0].startswith("this model knows only drawn scenes of 64 nouns")
        explanation.save(tmp_path / "answer.html", overwrite=True)
        assert "This model knows only drawn scenes of 64 nouns" in (tmp_path / "answer.html").read_text()
    assert not any("knows only" in warning for warning in explained(method="random").warnings)


def test_special_tokens_in_texts_are_named() -> None:
    token = generator("qwen2_vl").answers.tokenizer.all_special_tokens[0]
    explanation = nibt.explain_answer(
        generator("qwen2_vl"), "sample:chelsea", f"the red {token} cat", ANSWER, method="random", other_images=[]
    )
    assert any(f"the prompt: the model reads {token!r}" in warning for warning in explanation.warnings)
    assert not any("special token" in warning for warning in explained(method="random").warnings)


def _with_word(**changes: Any) -> dict[str, Any]:
    data = explained(steps=2).to_json()
    data["words"][1] |= changes
    return data


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"without": {"sky": 1.0}}, "without of word 1 must have the same sources"),
        ({"tokens": [0]}, "must come after those of the words before"),
        ({"text": "elephants"}, "must be in the answer"),
        ({"special": 1.7e308, "value": -1.7e308}, "too large to be added"),
        ({"log_probability": 5.0}, "must be at most 0"),
        ({"text": ""}, "must be in the answer"),
    ],
)
def test_contradicting_files_are_refused(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(BadInput, match=message):
        AnswerExplanation.from_json(_with_word(**changes))


def test_occlusion_explains_an_answer_of_one_word() -> None:
    explanation = nibt.explain_answer("scenes_generator", "sample:scene", "describe", "cat", method="occlusion")
    assert len(explanation.words[0].earlier) == 0


@pytest.mark.parametrize(
    ("method", "narrow"),
    few(
        product(available("methods"), [*SOURCES, SOURCES]),
        [("occlusion", "earlier"), ("nib", "earlier")],
    ),
)
def test_an_answer_of_one_word_has_no_words_before_it(method: str, narrow: Any) -> None:
    """Of each source, also the one without units, which has nothing to remove."""
    model = load_generator("scenes_generator")
    try:
        result = nibt.explain_answer(model, "sample:scene", "what", "cat", method, narrow=narrow)
    except Unsupported:  # methods of models with two towers
        return
    (word,) = result.words
    assert word.text == "cat"


def test_a_word_that_other_images_make_more_likely_is_contradicted() -> None:
    explanation = nibt.explain_answer(
        "scenes_generator", "sample:scene", "describe the picture", "a dog and a house", method="random"
    )
    words = {word.text: word for word in explanation.words}
    assert words["dog"].image_gain <= -2
    assert words["dog"].image_contradicts
    assert not words["dog"].image_hardly_matters
    assert "'dog' is less likely with this image than with other images" in explanation.warnings
    assert not any("hardly matters" in warning and "'dog'" in warning for warning in explanation.warnings)


@pytest.mark.parametrize("method", ["banzhaf", "shapley"])
def test_too_few_draws_for_an_error_have_a_note(method: str) -> None:
    question = ("scenes_generator", "sample:scene", "describe the picture")
    explained = nibt.explain_answer(*question, method=f"{method} budget=2 error=0.1", max_words=1)
    notes = dict(zip(explained.codes, explained.warnings, strict=True))
    assert explained.words[0].error is None
    assert notes["estimate"].startswith("the scores of 'a' are estimated from too few changed inputs to state")
    assert "is not known: allow more changed inputs" in notes["error_not_reached"]


def test_a_map_of_several_views_has_no_error_beside_words_that_have_one() -> None:
    question = ("scenes_generator", "sample:scene", "describe the picture")
    explained = nibt.explain_answer(*question, method="banzhaf budget=100 views=2", max_words=1)
    assert explained.words[0].error is None
    assert "estimate" not in explained.codes


@pytest.mark.slow
def test_estimated_scores_of_words_have_errors(tmp_path: Path) -> None:
    """Those of a source are None for exact methods, and exact zeros where all coalitions of words were evaluated."""
    explained = nibt.explain_answer(
        "scenes_generator",
        "sample:scene",
        "describe the picture",
        method="banzhaf",
        max_words=2,
        budget=200,
        error=0.01,
    )
    word = explained.words[1]
    assert word.error is not None
    assert word.error.grid.shape == word.grid.shape
    assert word.error.prompt.tolist() == [0.0, 0.0, 0.0]
    assert word.error.grid.min() > 0
    assert {"estimate", "error_not_reached"} <= {*explained.codes}

    explained.save(tmp_path / "answer.json")
    read = nibt.AnswerExplanation.load(tmp_path / "answer.json")
    assert torch.equal(read.words[1].error.grid, word.error.grid)
    assert (
        nibt.explain_answer("scenes_generator", "sample:scene", "describe the picture", method="occlusion", max_words=1)
        .words[0]
        .error
        is None
    )


def test_shifted_views_take_a_fixed_number_of_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    """The tolerance is that of the image itself, whose sums the shifted views do not change."""
    counts: list[int] = []
    own = Side.gradient

    def gradient(side: Side, cut: Cut, states: torch.Tensor, score: Any = None) -> torch.Tensor:
        counts.append(states.shape[0] * states.shape[1])
        return own(side, cut, states, score)

    monkeypatch.setattr(Side, "gradient", gradient)
    request = generator("llava"), "sample:chelsea", PROMPT, ANSWER
    options = {"narrow": "image", "other_images": [], "tolerance": 1e-4}
    one = nibt.explain_answer(*request, **options, views=1)
    of_image = sum(counts)
    counts.clear()
    three = nibt.explain_answer(*request, **options, views=3)
    assert of_image > 9 * len(one.words)
    assert sum(counts) == of_image + 2 * 6 * len(one.words)
    for word, fine in zip(one.words, three.words, strict=True):
        assert float(fine.grid.sum()) == pytest.approx(float(word.grid.sum()), abs=1e-5)
        assert fine.grid.shape == (3 * word.grid.shape[0], 3 * word.grid.shape[1])
