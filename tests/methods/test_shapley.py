"""Tests of ``nibt.methods.coalition_values``."""

import itertools
import math
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from nibt.core.perturbation import masker
from nibt.core.side import Side
from nibt.methods.coalition_values import Shapley, _coalitions, _regression
from tests import linear, tiny
from tests.helpers import both_sides, make_side, varied_kinds
from tests.suites import few


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
@pytest.mark.parametrize("budget", few([4, 40, 512], [4]))
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


@pytest.mark.parametrize(("players", "budget", "drawn"), [(4, 14, 14), (4, 13, 12), (4, 200, 14), (1, 2, 0), (2, 2, 2)])
def test_coalitions_are_complete_if_the_budget_covers_them(players: int, budget: int, drawn: int) -> None:
    shown, weights = _coalitions(players, budget, 0)
    assert shown.shape == (drawn, players)
    assert (shown.any(1) & ~shown.all(1)).all(), "neither the empty nor the full coalition is drawn"
    if drawn == 2**players - 2:
        assert len(np.unique(shown, axis=0)) == drawn
        sizes = shown.sum(1)
        by_hand = [(players - 1) / (math.comb(players, size) * size * (players - size)) for size in sizes]
        np.testing.assert_allclose(weights * (players - 1), by_hand)
    else:
        assert np.array_equal(shown[: drawn // 2], ~shown[drawn // 2 :])
        assert (weights == 1).all()


def test_sampled_coalitions_have_the_sizes_of_kernel_shap() -> None:
    """A size s of n has the chance 1 / (s (n - s)), and all units occur as often."""
    shown, _ = _coalitions(6, 40, 0)
    assert len(shown) == 40
    shown, _ = _coalitions(20, 200_000, 0)
    sizes = np.arange(1, 20)
    chances = 1 / (sizes * (20 - sizes))
    actual = np.bincount(shown.sum(1), minlength=21)[1:20] / len(shown)
    np.testing.assert_allclose(actual, chances / chances.sum(), atol=0.004)
    np.testing.assert_allclose(shown.mean(0), 0.5, atol=0.01)
    assert not np.array_equal(_coalitions(20, 40, 0)[0], _coalitions(20, 40, 1)[0])


def test_regression_weights_the_coalitions() -> None:
    """Equal to weighted least squares in which the last player has what is left of the sum."""
    generator = np.random.default_rng(0)
    shown = (generator.random((30, 5)) < 0.5).astype(float)
    weights, gains, total = generator.random(30), generator.normal(size=30), 1.7
    root = np.sqrt(weights)[:, None]
    rest = np.linalg.lstsq(
        root * (shown[:, :-1] - shown[:, -1:]), root[:, 0] * (gains - total * shown[:, -1]), rcond=None
    )[0]
    np.testing.assert_allclose(_regression(shown, weights, gains, total), [*rest, total - rest.sum()], atol=1e-9)


def test_shapley_value_of_a_single_word_is_the_whole_change() -> None:
    of = linear.text_side([(7,), (3, 1)])
    scores = Shapley()(of).scores
    torch.testing.assert_close(scores, linear.parts(of), atol=1e-4, rtol=1e-4)
    assert scores[0, 1] != 0
