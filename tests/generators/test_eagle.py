"""Tests of the method ``eagle`` against a loop over its definition, by the forward of the model on painted images."""

from typing import Any

import numpy as np
import pytest
import torch

import nibt
from nibt.data.units import Segments
from nibt.errors import BadOption, Unsupported
from nibt.generators.forced import AnswerRequest
from nibt.generators.methods.eagle import EAGLE, GreedyOrder
from tests import tiny
from tests.evaluation.test_decisive_answers import ANSWER, KIND, PROMPT, own_logits
from tests.tiny_vision_language import generator

SEGMENTS = 5


def explained(seed: int = 0, **options: Any) -> nibt.AnswerExplanation:
    settings = {"segments": SEGMENTS, "narrow": ["image"], **options}
    return nibt.explain_answer(
        generator(KIND), tiny.image(64, 64, seed), PROMPT, ANSWER, "eagle", other_images=[], **settings
    )


def segments_of(seed: int) -> Segments:
    forced = AnswerRequest.of(tiny.image(64, 64, seed), PROMPT, ANSWER, None).forced(generator(KIND))
    units = EAGLE(segments=SEGMENTS).units_of(forced.narrowing(["image"]).side([0], None, None))
    assert isinstance(units, Segments)
    return units


@pytest.mark.parametrize("seed", [0, 1])
def test_superpixels_are_added_that_make_the_goal_largest(seed: int) -> None:
    explanation = explained(seed)
    units = segments_of(seed)
    labels = units.labels[0]
    count = units.counts[0]
    assert count > 2
    for word in explanation.words:

        def probability(regions: set[int], tokens: Any = word.tokens) -> float:
            """Return the mean probability of the tokens of a word for an image with only these superpixels."""
            shown = torch.isin(labels, torch.tensor(sorted(regions), dtype=labels.dtype))
            logits, ids = own_logits(tiny.image(64, 64, seed), shown)
            shares = logits.softmax(-1)[range(len(ids)), ids]
            return float(shares[list(tokens)].mean())

        everything = set(range(count))
        shown: set[int] = set()
        goals = [probability(set()) + 1 - probability(everything)]
        order = []
        while shown != everything:
            values = {
                region: probability(shown | {region}) + 1 - probability(everything - shown - {region})
                for region in sorted(everything - shown)
            }
            best = max(values, key=lambda region: values[region])
            order.append(best)
            goals.append(values[best])
            shown |= {best}

        sizes = [float((labels == region).double().mean()) for region in order]
        curve = [probability(set(order[:place])) for place in range(count + 1)]
        area = np.trapezoid(curve, np.cumsum([0, *sizes])) - min(curve)
        assert word.reliance == {"image": pytest.approx(area, abs=1e-5)}

        changes = np.abs(np.diff(goals))
        scores = np.zeros(count)
        scores[order] = [changes[place + 1 :].sum() / changes[1:].sum() for place in range(count)]
        of_pixels = scores[labels.numpy()]
        rows, columns = word.grid.shape
        height, width = labels.shape
        of_cells = of_pixels.reshape(rows, height // rows, columns, width // columns).mean((1, 3))
        assert word.grid.numpy() == pytest.approx(of_cells, abs=2e-3), "the model computes in float32"


def test_words_before_are_ranked_from_one_to_zero() -> None:
    explanation = explained(narrow=["image", "prompt", "earlier"], segments=2)
    for number, word in enumerate(explanation.words):
        assert word.prompt.shape == (len(explanation.prompt_words),)
        assert (float(word.prompt.max()), float(word.prompt.min())) == (1, 0)
        assert len(word.earlier) == number
        if number < 2:
            assert not word.earlier.any(), "one word alone has no order"
        else:
            assert (float(word.earlier.max()), float(word.earlier.min())) == (1, 0)


def test_scores_decrease_in_the_order_with_the_changes_of_the_goal() -> None:
    order = GreedyOrder((2, 0, 1), inserted=(0.5, 0.6, 0.8), deleted=(0.7, 0.3, 0.1))
    # goals: 0.3, 0.8, 1.3, 1.7; changes after the first: 0.5, 0.4
    assert order.scores().tolist() == pytest.approx([0.4 / 0.9, 0, 1])
    assert not GreedyOrder((1, 0), (0.5, 0.5), (0.5, 0.5)).scores().any()
    assert not GreedyOrder((0,), (0.5,), (0.1,)).scores().any()
    assert not GreedyOrder((), (), ()).scores().any()


def test_reliance_is_the_area_above_the_least_probability() -> None:
    order = GreedyOrder((2, 0, 1), inserted=(0.5, 0.6, 0.8), deleted=(0.7, 0.3, 0.1))
    by_hand = (0.1 + 0.5) / 2 * 0.2 + (0.5 + 0.6) / 2 * 0.5 + (0.6 + 0.8) / 2 * 0.3 - 0.1
    assert order.reliance(np.array([0.5, 0.3, 0.2])) == pytest.approx(by_hand)
    assert order.reliance(None) == pytest.approx((0.3 + 0.55 + 0.7) / 3 - 0.1)
    assert GreedyOrder((), (), ()).reliance(None) == 0
    word = nibt.explain_answer(generator(KIND), tiny.image(64, 64), PROMPT, ANSWER, "occlusion", other_images=[])
    assert all(not each.reliance for each in word.words)


@pytest.mark.parametrize("units", ["words", "refined:9"])
def test_cells_and_blocks_of_cells_can_be_units(units: str) -> None:
    explanation = nibt.explain_answer(
        generator("qwen2_vl"),
        tiny.image(56, 56),
        PROMPT,
        ANSWER,
        "eagle",
        units=units,
        other_images=[],
        narrow=["image"],
    )
    grid = explanation.words[0].grid
    assert 0 <= float(grid.min()) < float(grid.max()) <= 1


def test_what_eagle_does_not_explain_is_refused() -> None:
    with pytest.raises(BadOption, match="eagle explains the probability of a word, not a difference"):
        explained(against="cat")
    with pytest.raises(Unsupported, match="eagle needs"):
        nibt.explain(tiny.model("clip"), tiny.image(), "a cat", "eagle")
    with pytest.raises(Unsupported, match="units must be words or tower"):
        nibt.explain_answer(generator("llava_next"), tiny.image(64, 64), PROMPT, ANSWER, "eagle")
    with pytest.raises(BadOption, match="segments must be between 2"):
        explained(segments=1)
