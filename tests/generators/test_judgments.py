"""Tests of whether words of answers are judged to be seen or guessed."""

import math
from typing import Any

import numpy as np
import pytest
import torch
from scipy import stats

import nibt
from nibt.datasets.scenes import Scenes
from nibt.errors import BadInput
from nibt.generators.results.answer_word import AnswerWord


def word(log_probability: float, others: list[float], **changes: Any) -> AnswerWord:
    """Return a word with the log-probabilities with its image and with other images."""
    mean = sum(others) / len(others) if others else None
    nothing = torch.zeros(0)
    values = {
        "text": "cat",
        "tokens": (0,),
        "log_probability": log_probability,
        "with_blank_image": -1.0,
        "with_other_images": mean,
        "value": log_probability,
        "without": {},
        "at_blank": 0.0,
        "grid": torch.zeros(1, 1),
        "prompt": nothing,
        "earlier": nothing,
        "special": 0.0,
        "each_other_image": tuple(others),
    }
    return AnswerWord(**(values | changes))


def test_p_values_are_those_of_student() -> None:
    others = [-3.0, -1.0, -4.5, -2.0, -0.5, -6.0]
    gains = -0.4 - np.array(others)
    judged = word(-0.4, others)
    assert judged.p_guessed == pytest.approx(stats.ttest_1samp(gains, 2.0, alternative="less").pvalue)


@pytest.mark.parametrize(
    ("log_probability", "others", "judgment"),
    [
        (-0.2, [-0.3, -0.1, -0.4, -0.2], "guessed"),  # as likely with other images
        (-0.2, [-9.0, -7.0, -11.0, -8.0], "seen"),
        (-0.2, [-0.3, -0.1, -12.0, -0.2], "cannot tell"),  # one other image says the opposite
        (-5.0, [-5.1, -4.9, -5.2, -5.0], "cannot tell"),  # the model would not write it here
        (-5.0, [-9.0, -8.0, -10.0, -9.5], "seen"),  # but the image raises it
        (-0.2, [-1.2, -3.9, -2.0, -2.4], "cannot tell"),  # at the limit
        (-0.2, [-0.2, -0.2, -0.2], "guessed"),  # without any variance
        (-0.2, [-2.5, -2.5, -2.5], "seen"),
        (-0.2, [-0.3], "cannot tell"),  # no test with one image
        (-0.2, [], "cannot tell"),
    ],
)
def test_words_are_seen_guessed_or_neither(log_probability: float, others: list[float], judgment: str) -> None:
    judged = word(log_probability, others)
    assert judged.judgment == judgment
    if len(others) > 1:
        assert judged.image_hardly_matters == (judgment == "guessed")


def test_words_at_the_limit_are_called_guessed_in_one_case_of_twenty() -> None:
    """To which the image adds just 2 nats on average, with six other images."""
    draws = np.random.default_rng(0)
    guessed = [word(-0.1, (-2.1 + draws.normal(0, 0.3, 6)).tolist()).judgment == "guessed" for _ in range(2000)]
    assert np.mean(guessed) == pytest.approx(0.05, abs=0.015)


def test_a_blank_image_alone_is_no_test() -> None:
    judged = word(-0.9, [])
    assert judged.p_guessed is None
    assert judged.image_hardly_matters  # as likely with a blank image, which is a fact of one image


@pytest.mark.slow
def test_the_guess_of_a_scene_is_found_and_objects_are_seen() -> None:
    """The scene has a duck and a bee, and the model adds a rose, which it learned to see beside a bee."""
    scene = Scenes(count=6, seed=5)[2].image
    answer = nibt.explain_answer("scenes_generator", scene, "describe the picture", method="random", narrow="image")
    judged = {one.text: one.judgment for one in answer.words}
    assert (judged["bee"], judged["rose"], judged["duck"]) == ("seen", "guessed", "seen")
    note = dict(zip(answer.codes, answer.warnings, strict=True))["image_hardly_matters"]
    assert "'rose'" in note
    assert "'bee'" not in note
    rose = answer.word("rose")
    assert len(rose.each_other_image) == 6
    assert rose.with_other_images == pytest.approx(sum(rose.each_other_image) / 6)


def test_words_that_the_model_would_not_write_are_not_called_guessed() -> None:
    answer = nibt.explain_answer(
        "scenes_generator", "sample:scene", "describe the picture", "a hammer", "random", narrow="image"
    )
    hammer = answer.word("hammer")
    assert hammer.log_probability < math.log(0.1)
    assert hammer.judgment != "guessed"
    if hammer.judgment == "cannot tell" and not hammer.image_contradicts:
        assert any("whether 'hammer' was seen or guessed cannot be told" in note for note in answer.warnings)


def test_log_probabilities_of_files_are_checked() -> None:
    answer = nibt.explain_answer("scenes_generator", "sample:scene", "describe", "a cat", "random", narrow="image")
    data = answer.to_json()
    data["words"][0]["each_other_image"][0] = 1.0
    with pytest.raises(BadInput, match="log-probabilities of word 0 must be at most 0"):
        nibt.AnswerExplanation.from_json(data)
