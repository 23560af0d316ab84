"""Tests of the methods ``ones``, ``center`` and ``random``, and of seeds."""

import math
from typing import Any

import numpy as np
import pytest
import torch

import nibt
from nibt.core.side import Side
from nibt.data.units import Words
from nibt.errors import BadOption
from nibt.methods.controls import Center, Ones, Random
from tests import linear, tiny
from tests.helpers import both_sides, make_side, varied_kinds


def explained(of: Side, scores: torch.Tensor) -> torch.Tensor:
    """Return the scores of the explained units, one after the other."""
    return scores[of.units.explained] if isinstance(of.units, Words) else scores.flatten()


@both_sides
@varied_kinds
def test_controls_run_no_forward_pass(kind: str, modality: str) -> None:
    of = make_side(tiny.model(kind), modality)
    passes = []
    hook = of.tower.blocks[0].register_forward_hook(lambda *_: passes.append(1))
    try:
        flat, center, drawn = Ones()(of), Center()(of), Random()(of)
    finally:
        hook.remove()
    assert not passes
    assert (explained(of, flat.scores) == 1).all()
    for answer in (center, drawn):
        actual = explained(of, answer.scores)
        assert ((actual > 0) & (actual <= 1)).all()
        assert not answer.special_token_share.any()
    assert explained(of, drawn.scores).unique().numel() == explained(of, drawn.scores).numel()


def test_centre_is_a_bell_on_the_grid() -> None:
    of = linear.image_side(1)
    grid = Center(0.5)(of).grid[0]
    assert grid.shape == (2, 3)
    outer, inner = math.exp(-(1 + 1) / 0.5), math.exp(-1 / 0.5)
    torch.testing.assert_close(grid, torch.tensor([[outer, inner, outer]] * 2))


def test_centre_of_a_caption_uses_its_own_words() -> None:
    scores = Center(1.0)(linear.text_side([(3, 1, 4, 1, 5), (2, 6), (7,)])).scores
    edge = math.exp(-0.5)
    torch.testing.assert_close(scores[1], torch.tensor([0, edge, edge, 0, 0, 0]))
    torch.testing.assert_close(scores[2], torch.tensor([0, 1.0, 0, 0, 0, 0]))
    torch.testing.assert_close(scores[0, 1:], torch.tensor([edge, math.exp(-0.125), 1.0, math.exp(-0.125), edge]))


def test_random_scores_depend_on_the_item_only() -> None:
    images, captions = [tiny.image(seed=seed) for seed in (1, 2)], list(tiny.CAPTIONS[:2])
    together = nibt.explain(tiny.model("clip"), images, captions, "random")
    alone = [nibt.explain(tiny.model("clip"), *pair, "random") for pair in zip(images, captions, strict=True)]
    other = nibt.explain(tiny.model("clip"), images[0], captions[0], "random", seed=1)
    for one, single in zip(together, alone, strict=True):
        assert torch.equal(one.image.scores, single.image.scores)
        assert [word.score for word in one.words] == [word.score for word in single.words]
    assert not torch.equal(together[0].image.scores, together[1].image.scores)
    assert not torch.equal(together[0].image.scores, other.image.scores)
    assert other.method["image"] == {"seed": 1, "views": 1, "amounts": "method"}


def test_random_scores_are_uniform() -> None:
    of = linear.image_side(2000)
    scores = Random()(of).scores
    assert scores.mean() == pytest.approx(0.5, abs=0.02)
    assert scores.var() == pytest.approx(1 / 12, abs=0.005)


SMALL: dict[str, dict[str, Any]] = {
    "rise": {"masks": 20},
    "occlusion": {},
    "shapley": {"budget": 30},
    "banzhaf": {"budget": 30},
    "fixlip": {"budget": 30},
    "random": {},
    "center": {},
    "ones": {},
}


@pytest.mark.parametrize("method", SMALL)
def test_perturbation_methods_leave_global_generators_unchanged(method: str) -> None:
    before = torch.get_rng_state(), np.random.get_state()[1].copy()  # beartype draws from the generator of Python
    nibt.explain(tiny.model("clip"), tiny.image(), "two cars", method, **SMALL[method])
    assert torch.equal(before[0], torch.get_rng_state())
    assert np.array_equal(before[1], np.random.get_state()[1])


@pytest.mark.parametrize("method", ["banzhaf", "fixlip", "rise", "shapley"])
def test_seeds_change_the_scores_and_are_recorded(method: str) -> None:
    first, again, other = (
        nibt.explain(tiny.model("clip"), tiny.image(), tiny.CAPTIONS[2], method, seed=seed, **SMALL[method])
        for seed in (4, 4, 5)
    )
    assert first.method["image"]["seed"] == first.method["text"]["seed"] == 4
    for modality in ("image", "text"):
        assert torch.equal(getattr(first, modality).scores, getattr(again, modality).scores)
        assert not torch.equal(getattr(first, modality).scores, getattr(other, modality).scores)


@pytest.mark.parametrize(
    ("method", "options", "message"),
    [
        ("rise", {"masks": 0}, r"masks must be between 1 and .* \(got 0\)"),
        ("rise", {"share": 0}, "share must be above 0"),
        ("rise", {"share": 1.5}, "at most 1"),
        ("rise", {"cells": 0}, "cells must be between 1 and"),
        ("rise", {"seed": -1}, "seed must be between 0 and"),
        ("shapley", {"budget": 1}, "budget must be between 2 and"),
        ("shapley", {"seed": -1}, "seed must be between 0 and"),
        ("random", {"seed": -1}, "seed must be between 0 and"),
        ("center", {"spread": 0}, "spread must be above 0"),
    ],
)
def test_perturbation_methods_reject_bad_options(method: str, options: dict[str, Any], message: str) -> None:
    with pytest.raises(BadOption, match=message):
        nibt.explain(tiny.model("clip"), tiny.image(), "a cat", method, **options)
