"""Tests of prompts of BLIP and BLIP-2, whose words are left out by methods that change inputs."""

from functools import cache

import pytest
import torch

import nibt
from nibt.errors import Unsupported
from tests import tiny
from tests.suites import few
from tests.tiny_vision_language import generator

KINDS = ("blip_caption", "blip_question", "blip_2_opt", "blip_2_t5", "instructblip")
IMAGE = tiny.image(64, 64, seed=3)
PROMPT = "a red cat"
ANSWER = "two cars"
every_kind = pytest.mark.parametrize("kind", few(KINDS, ("blip_caption", "blip_question")))


@cache
def explained(kind: str, prompt: str = PROMPT, method: str = "occlusion", **options: object) -> nibt.AnswerExplanation:
    return nibt.explain_answer(generator(kind), IMAGE, prompt, ANSWER, method, other_images=(), **options)


@every_kind
def test_score_of_a_word_is_the_loss_without_it(kind: str) -> None:
    result = explained(kind)
    assert result.prompt_words == tuple(PROMPT.split())
    assert result.target["options"]["narrow"] == ["image", "prompt"]
    for number in range(3):
        kept = " ".join(word for place, word in enumerate(PROMPT.split()) if place != number)
        without = explained(kind, kept)
        for word, other in zip(result.words, without.words, strict=True):
            lost = word.log_probability - other.log_probability
            assert float(word.prompt[number]) == pytest.approx(lost, abs=1e-4)
            assert not word.earlier.any()


@pytest.mark.parametrize("kind", ["blip_caption"])
def test_baseline_is_a_blank_image_without_a_prompt(kind: str) -> None:
    empty = explained(kind, "")
    assert empty.prompt_words == ()
    assert empty.target["options"]["narrow"] == ["image"]
    for word, other in zip(explained(kind).words, empty.words, strict=True):
        assert word.at_blank == pytest.approx(other.with_blank_image, abs=1e-4)
        assert word.without["prompt"] == pytest.approx(other.log_probability, abs=1e-4)


@every_kind
def test_shapley_values_add_up(kind: str) -> None:
    for word in explained(kind, method="shapley", narrow="prompt").words:
        assert set(word.without) == {"prompt"}
        assert float(word.prompt.sum()) == pytest.approx(word.changes["prompt"], abs=1e-4)
        assert word.at_blank == pytest.approx(word.without["prompt"], abs=1e-4)
        assert not word.grid.any()


def test_prompt_alone_has_the_scores_that_it_has_beside_the_image() -> None:
    both = explained("blip_question")
    alone = explained("blip_question", narrow="prompt")
    for word, other in zip(both.words, alone.words, strict=True):
        assert torch.allclose(word.prompt, other.prompt, atol=1e-5)


def test_comparison_with_another_word_is_explained() -> None:
    result = explained("blip_caption", against="red")
    kept = explained("blip_caption", "red cat", against="red")
    lost = result.words[0].value - kept.words[0].value
    assert float(result.words[0].prompt[0]) == pytest.approx(lost, abs=1e-4)


def test_other_methods_name_those_that_explain_the_prompt() -> None:
    assert explained("blip_caption", method="nib", layer=1, steps=2).target["options"]["narrow"] == ["image"]
    with pytest.raises(Unsupported, match=r"words of the prompt do not pass .* such as occlusion or shapley"):
        explained("blip_caption", method="nib", narrow="prompt")


def test_stored_result_is_read(tmp_path_factory: pytest.TempPathFactory) -> None:
    path = tmp_path_factory.mktemp("results") / "x.json"
    explained("blip_question").save(path)
    assert nibt.AnswerExplanation.load(path).prompt_words == tuple(PROMPT.split())
