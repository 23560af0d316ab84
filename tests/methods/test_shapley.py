"""Tests of ``nibt.methods.shapley``."""

import itertools
import math
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from nibt.core.perturbation import masker
from nibt.core.side import Side
from nibt.methods.shapley import Shapley, _coalitions, _regression
from tests import tiny
from tests.helpers import both_sides, make_side, varied_kinds


def _exact(of: Side) -> torch.Tensor:
    """Return the mean contribution of each unit of one caption over all orders of the units."""
    score, places = masker(of, of.units), of.units.explained[0].nonzero()[:, 0].tolist()
    values = {}
    for size in range(len(places) + 1):
        for shown in itertools.combinations(places, size):
            keep = torch.zeros(1, of.units.explained.shape[1])
            keep[0, list(shown)] = 1.0
            values[shown] = float(score(keep))
    total = torch.zeros(of.units.explained.shape[1])
    for order in itertools.permutations(places):
        for turn, unit in enumerate(order):
            before = tuple(sorted(order[:turn]))
            total[unit] += values[tuple(sorted((*before, unit)))] - values[before]
    return total / math.factorial(len(places))


@pytest.mark.parametrize("kind", ["clip", "siglip", "bert"])
def test_shapley_values_of_few_words_are_exact(kind: str) -> None:
    model = tiny.model(kind)
    opposite = model.image.encode(model.image.prepare([tiny.image()]))
    text = model.text.trace(model.text.prepare(["red cat on small mat"]))
    of = Side(model, text, lambda embedding: F.cosine_similarity(embedding, opposite, dim=-1))
    torch.testing.assert_close(Shapley()(of).scores[0], _exact(of), atol=2e-6, rtol=1e-3)


@both_sides
@varied_kinds
@pytest.mark.parametrize("budget", [4, 40, 512])
def test_shapley_values_sum_to_the_change_for_any_budget(kind: str, modality: str, budget: int) -> None:
    of = make_side(tiny.model(kind), modality)
    scores = Shapley(budget)(of).scores
    width = scores.shape[1]
    nothing = masker(of, of.units)(torch.zeros(2, width))
    torch.testing.assert_close(scores.sum(1), of.value() - nothing, atol=3e-6, rtol=1e-4)


def _game(players: int, pairs_only: bool) -> Any:
    """Return a game in which players 0 and 1 are equal, and the last one has no effect."""
    weights = np.random.default_rng(0).normal(size=(players, 8))
    weights[1], weights[-1] = weights[0], 0.0

    def game(shown: np.ndarray) -> np.ndarray:
        strength = shown @ weights / players**0.5
        return (strength**2 if pairs_only else np.tanh(1 + strength) - np.tanh(1)).sum(1)

    return game


def _values(game: Any, players: int, budget: int, seed: int = 0) -> np.ndarray:
    shown, weights = _coalitions(players, budget, seed)
    assert len(shown) <= budget
    return _regression(shown.astype(float), weights, game(shown), float(game(np.ones((1, players)))[0]))


@pytest.mark.parametrize(
    ("pairs_only", "budget", "within"), [(True, 256, 1e-9), (True, 60, 1e-9), (False, 256, 1e-9), (False, 200, 0.02)]
)
def test_shapley_values_keep_their_axioms(pairs_only: bool, budget: int, within: float) -> None:
    """Equal players have equal values, and a player without effect has none. Coalitions and their complements share the
    effects of pairs exactly, even if few are drawn.
    """
    game = _game(8, pairs_only)
    actual = _values(game, 8, budget)
    assert actual.sum() == pytest.approx(float(game(np.ones((1, 8)))[0]), abs=1e-9)
    assert abs(actual[0] - actual[1]) <= within
    assert abs(actual[-1]) <= within
    assert np.abs(actual).max() > 10 * within


def test_shapley_estimate_improves_with_the_budget() -> None:
    game = _game(12, pairs_only=False)
    exact = _values(game, 12, 2**12)
    errors = [
        np.mean([np.linalg.norm(_values(game, 12, budget, seed) - exact) for seed in range(8)])
        for budget in (64, 256, 1024)
    ]
    assert errors[2] < 0.75 * errors[1] < 0.75 * 0.75 * errors[0]
    assert errors[2] < 0.05 * np.linalg.norm(exact)
