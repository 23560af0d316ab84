"""Tests of ``nibt.methods._errors``: stated errors of estimates, by enumeration and by formulas written out here."""

from typing import Any

import numpy as np
import pytest
import torch
from scipy import stats

import nibt
from nibt.errors import BadInput, BadOption, NibtError
from nibt.methods._coalitions import CoalitionMethod, subsets
from nibt.methods._errors import ENOUGH, Regression, mean_error, rounds, share_of_error
from nibt.methods.coalition_values import Banzhaf, Shapley
from nibt.methods.fixlip import FIxLIP
from nibt.methods.masks import RISE, _Sums
from tests import linear, tiny
from tests.helpers import make_side
from tests.suites import few

PLAYERS = 7


def game(seed: int) -> np.ndarray:
    """Return the values of all coalitions of a game with strong interactions, by the number of the coalition."""
    draws = np.random.default_rng(seed)
    kept = subsets(PLAYERS).astype(float)
    return np.tanh(kept @ draws.normal(size=(PLAYERS, 6)) - 0.5) @ draws.normal(size=6)


def estimate(method: CoalitionMethod, values: np.ndarray, level: float = 0.95) -> tuple[np.ndarray, np.ndarray]:
    """Return the effects of the players of a game, and their half-widths."""
    coalitions, weights = method.coalitions(PLAYERS)
    own = values[coalitions @ 2 ** np.arange(PLAYERS)]
    effects = method.fit(coalitions, weights, own, values[-1])
    return effects, method.half_widths(coalitions, own, values[-1], effects, level)


def coverage(make: Any, level: float, repeats: int = 1000) -> float:
    """Return how often intervals of estimates with other seeds contain the exact effects."""
    inside = []
    for seed in range(repeats):
        values = game(seed % 20)
        exact, zero = estimate(make(100_000, seed), values)
        assert not zero.any()
        effects, half = estimate(make(0, seed), values, level)
        inside.append(np.mean(np.abs(effects - exact) <= half))
    return float(np.mean(inside))


METHODS = {
    "shapley": lambda budget, seed: Shapley(budget or 60, seed=seed),
    "banzhaf": lambda budget, seed: Banzhaf(budget or 60, seed=seed),
    "banzhaf unpaired": lambda budget, seed: Banzhaf(budget or 60, share=0.3, seed=seed),
    "means": lambda budget, seed: Banzhaf(budget or 40, estimate="means", seed=seed),
    "fixlip": lambda budget, seed: FIxLIP(budget or 100, share=0.4, seed=seed),
}


@pytest.mark.parametrize("level", few([0.8, 0.9, 0.95], [0.95]))
@pytest.mark.parametrize("name", few(list(METHODS), ["banzhaf"]))
def test_intervals_contain_the_exact_effects_as_often_as_they_say(name: str, level: float) -> None:
    assert coverage(METHODS[name], level) == pytest.approx(level, abs=0.02)


@pytest.mark.slow
@pytest.mark.parametrize(
    "make",
    [
        lambda budget, seed: Shapley(budget or 10, seed=seed),
        lambda budget, seed: Shapley(budget or 24, seed=seed),
        lambda budget, seed: Banzhaf(budget or 8, seed=seed),
        lambda budget, seed: Banzhaf(budget or 24, seed=seed),
        lambda budget, seed: Banzhaf(budget or 60, ridge=0.0 if budget else 4.0, seed=seed),
        lambda budget, seed: Banzhaf(budget or 12, ridge=0.0 if budget else 4.0, seed=seed),
    ],
    ids=["shapley 10", "shapley 24", "banzhaf 8", "banzhaf 24", "ridge", "ridge 12"],
)
def test_intervals_of_few_draws_and_of_penalized_scores_are_not_too_narrow(make: Any) -> None:
    assert coverage(make, 0.95, 200) >= 0.94


def test_error_of_means_is_that_of_paired_differences() -> None:
    """Student's interval of the difference that a player makes in each pair of complements."""
    values = game(3)
    effects, half = estimate(Banzhaf(30, estimate="means"), values)
    kept, _ = Banzhaf(30).coalitions(PLAYERS)
    own = values[kept @ 2 ** np.arange(PLAYERS)]
    differences = np.where(kept[:15], 1, -1) * (own[:15] - own[15:])[:, None]
    interval = stats.ttest_1samp(differences, 0).confidence_interval(0.95)
    np.testing.assert_allclose(effects - half, interval.low, atol=1e-12)
    np.testing.assert_allclose(effects + half, interval.high, atol=1e-12)


def test_error_of_a_regression_is_the_corrected_sandwich() -> None:
    """The formulas of Bell and McCaffrey (2002), with one loop for each sum."""
    draws = np.random.default_rng(0)
    design, outcomes = draws.normal(size=(20, 3)), draws.normal(size=20)
    inverse = np.linalg.inv(design.T @ design)
    coefficients = inverse @ design.T @ outcomes
    residual_maker = np.eye(20) - design @ inverse @ design.T
    actual = Regression(design, outcomes, 3, 3, 0, 1.0).error(coefficients)
    for player in range(3):
        influence = [inverse[player] @ row for row in design]
        residuals = outcomes - design @ coefficients
        weights = [influence[k] ** 2 / residual_maker[k, k] for k in range(20)]
        variance = sum(weights[k] * residuals[k] ** 2 for k in range(20))
        spread = residual_maker @ np.diag(weights) @ residual_maker
        freedom = np.trace(spread) ** 2 / np.trace(spread @ spread)
        wanted = stats.t.ppf(0.975, freedom) * np.sqrt(variance)
        assert actual[player] == pytest.approx(wanted, rel=1e-9)


def test_errors_of_several_targets_are_those_of_each() -> None:
    values = np.stack([game(1), game(2)], 1)
    for method in (Shapley(60), Shapley(12), Banzhaf(60), Banzhaf(60, share=0.3), Banzhaf(20, estimate="means")):
        _, both = estimate(method, values)
        each = [estimate(method, values[:, column])[1] for column in (0, 1)]
        np.testing.assert_allclose(both, np.stack(each, 1), rtol=1e-9)


@linear.both_sides
@pytest.mark.parametrize("method", [Banzhaf(40), Shapley(40), Banzhaf(40, share=0.3), FIxLIP(40)])
def test_scores_of_a_sum_have_no_error(method: CoalitionMethod, of: Any) -> None:
    """Whatever coalitions are drawn, the regression has no residuals."""
    attribution = method(of)
    assert attribution.error is not None
    assert attribution.error.abs().max() <= 1e-4 * attribution.scores.abs().max()


def test_a_player_in_each_draw_has_no_interval() -> None:
    """Its column says nothing, so its score of 0 must not look certain."""
    draws = np.random.default_rng(0)
    design = draws.normal(size=(40, 3))
    design[:, 0] = 0.0
    half = Regression(design, draws.normal(size=40), 3, 3, 1, 0.25).error(np.zeros(3))
    assert np.isinf(half).tolist() == [True, False, False]


def test_rounds_grow_and_end_with_the_budget() -> None:
    assert list(rounds(100, 24)) == [24, 30, 38, 48, 60, 75, 94, 100]
    assert list(rounds(10, 24)) == [10]


def test_rise_errors_are_those_of_means() -> None:
    draws = np.random.default_rng(0)
    scores, keep = draws.normal(1, 0.3, (50, 1)), draws.random((50, 4)) < 0.3
    sums = _Sums(0.3, torch.device("cpu"))
    for part in (slice(0, 20), slice(20, 50)):
        sums.add(torch.tensor(scores[part]), torch.tensor(keep[part]))
    estimates = sums.estimates(1)
    interval = stats.ttest_1samp(scores * keep / 0.3, 0).confidence_interval(0.95)
    np.testing.assert_allclose(estimates.scores[0] + estimates.error[0], interval.high, rtol=1e-4)
    assert mean_error(np.ones(2), np.ones(2), 1).tolist() == [np.inf, np.inf]


@pytest.mark.parametrize("spec", ["shapley budget=200", "banzhaf budget=200", "rise masks=200"])
def test_a_limit_ends_the_draws_early_and_does_not_change_them(spec: str) -> None:
    """The coalitions are the first of those without a limit, which a limit that is never reached shows."""
    model = tiny.model("clip")
    full = nibt.explain(model, tiny.image(), "a cat", spec)
    never = nibt.explain(model, tiny.image(), "a cat", f"{spec} error=1e-9")
    torch.testing.assert_close(never.grid, full.grid, atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(never.image.error, full.image.error, atol=1e-5, rtol=1e-3)
    assert never.image.evaluations == full.image.evaluations

    share = float(full.image.error.max() / full.grid.abs().max())
    limit = 1.0 if share > 0.7 else 1.5 * share
    early = nibt.explain(model, tiny.image(), "a cat", f"{spec} error={limit}")
    if early.image.evaluations < full.image.evaluations:
        assert float(early.image.error.max()) <= limit * float(early.grid.abs().max())
    assert early.image.evaluations < full.image.evaluations or share > limit


@pytest.mark.parametrize("spec", ["shapley budget=200 error=0.9", "rise masks=200 error=0.3"])
def test_a_limit_stops_each_item_as_if_it_were_alone(spec: str) -> None:
    model = tiny.model("clip")
    images = [tiny.image(), tiny.image(seed=5)]
    together = nibt.explain(model, images, "a red cat", spec)
    again = nibt.explain(model, images, "a red cat", spec)
    assert all(torch.equal(first.grid, second.grid) for first, second in zip(together, again, strict=True))
    for image, one in zip(images, together, strict=True):
        alone = nibt.explain(model, image, "a red cat", spec)
        assert alone.image.evaluations == one.image.evaluations
        torch.testing.assert_close(alone.grid, one.grid, atol=1e-5, rtol=1e-4)
        torch.testing.assert_close(alone.image.error, one.image.error, atol=1e-5, rtol=1e-3)


def test_share_of_the_error_is_the_largest_of_all_targets() -> None:
    scores, errors = np.array([[1.0, 1.0], [0.5, 0.5]]), np.array([[0.1, 0.3], [0.05, 0.1]])
    assert share_of_error(scores, errors) == pytest.approx(0.3)
    assert share_of_error(np.zeros(2), np.zeros(2)) == 0
    assert share_of_error(np.zeros(2), np.ones(2)) == np.inf


def test_errors_go_on_to_results_and_their_files(tmp_path: Any) -> None:
    explanation = nibt.explain(tiny.model("clip"), tiny.image(), "a red cat", "shapley budget=100")
    path = tmp_path / "one.json"
    explanation.save(path)
    read = nibt.Explanation.load(path)
    assert read.image.error.shape == explanation.grid.shape
    assert torch.equal(read.image.error, explanation.image.error)
    assert [word.error for word in read.words] == [0.0, 0.0, 0.0]  # of all eight coalitions
    assert (read.image.evaluations, read.text.evaluations) == (101, 7)

    data = explanation.to_json()
    data["sides"]["image"]["error"][0][0] = -1.0
    with pytest.raises(BadInput, match=r"error must have a number of at least 0 .* the least is -1"):
        nibt.Explanation.from_json(data)
    assert nibt.explain(tiny.model("clip"), tiny.image(), "a cat", "nib").image.error is None


def test_too_few_draws_have_no_error() -> None:
    explanation = nibt.explain(tiny.model("clip"), tiny.image(), "a cat", "banzhaf budget=2")
    assert explanation.image.error is None
    assert "estimate:image" in explanation.codes
    assert any("from 2 changed inputs, too few to state their error" in note for note in explanation.warnings)


def test_an_error_that_is_not_known_is_above_no_number() -> None:
    explanation = nibt.explain(tiny.model("clip"), tiny.image(), "a cat", "banzhaf budget=2 error=0.1")
    notes = dict(zip(explanation.codes, explanation.warnings, strict=True))
    assert notes["error_not_reached"].endswith("is not known after 2 changed inputs: allow more of them")


def test_scores_of_zero_with_errors_have_a_note() -> None:
    """The error is then no share of the largest score."""
    explanation = nibt.explain(tiny.model("clip"), tiny.image(), "a cat", "banzhaf budget=100 ridge=1e300")
    notes = dict(zip(explanation.codes, explanation.warnings, strict=True))
    assert not explanation.grid.any()
    assert "with an error that is no share of the largest one, which is 0; " in notes["estimate:image"]


@pytest.mark.parametrize("error", [-1.0, None])
def test_errors_of_words_in_a_file_are_those_of_estimates(error: Any) -> None:
    data = nibt.explain(tiny.model("clip"), tiny.image(), "a red cat", "shapley budget=100").to_json()
    data["sides"]["text"]["words"][1]["error"] = error
    with pytest.raises(BadInput, match=r"the error of the word 'red' must be a number of at least 0 .*got (-1.0|None)"):
        nibt.Explanation.from_json(data)


def test_notes_say_the_error_and_how_many_scores_may_be_zero() -> None:
    explanation = nibt.explain(tiny.model("clip"), tiny.image(), "a cat", "shapley budget=100 error=0.001")
    notes = dict(zip(explanation.codes, explanation.warnings, strict=True))
    unsure = int((explanation.grid.abs() <= explanation.image.error).sum())
    share = float(explanation.image.error.max() / explanation.grid.abs().max())
    assert f"{unsure} of {explanation.grid.numel()} cannot be told from 0 and are pale" in notes["estimate:image"]
    assert f"from 101 changed inputs, with an error of at most {100 * share:.0f}" in notes["estimate:image"]
    assert "estimate:text" not in notes  # all four coalitions of two words: no error
    assert "after 101 changed inputs, above 0.001: allow more" in notes["error_not_reached"]


@pytest.mark.parametrize("options", [{"views": 2}, {"amounts": "removal"}])
def test_maps_that_are_changed_afterwards_have_no_error(options: dict[str, Any]) -> None:
    side = make_side(tiny.model("clip"), "image")
    assert Shapley(20)(side).error is not None
    assert Shapley(20, **options)(side).error is None


@pytest.mark.parametrize(
    ("method", "options", "message"),
    [
        ("shapley", {"error": 0}, r"error must be above 0 and at most 1 \(got 0.0\)"),
        ("rise", {"error": 2}, r"error must be above 0 and at most 1 \(got 2.0\)"),
        ("banzhaf", {"error": 0.1, "views": 3}, "error must be left out with several views"),
        ("shapley", {"error": 0.1, "amounts": "removal"}, "error must be left out with amounts=removal"),
        ("nib", {"error": 0.1}, "error"),
    ],
)
def test_bad_limits_are_refused(method: str, options: dict[str, Any], message: str) -> None:
    with pytest.raises(NibtError, match=message):
        nibt.explain(tiny.model("clip"), tiny.image(), "a cat", method, **options)


@pytest.mark.parametrize("method", ["shapley", "rise"])
def test_tables_take_no_limit(method: str) -> None:
    with pytest.raises(BadOption, match="error is for maps"):
        nibt.regions(tiny.model("clip"), tiny.image(), "a cat", method=method, error=0.1)


def test_draws_per_score_are_documented() -> None:
    assert ENOUGH == 3
    assert RISE(10).error is None


def test_special_tokens_do_not_count_for_the_limit_of_rise() -> None:
    """Their scores are not shown, and would be the largest ones of a caption whose words have many tokens."""
    scores, keep = torch.rand(40, 1) + 1, torch.rand(40, 1, 3) < 0.5
    sizes, explained = torch.tensor([[1.0, 4.0, 4.0]]), torch.tensor([[False, True, True]])
    sums = _Sums(0.5, torch.device("cpu"), sizes, explained)
    sums.add(scores, keep)
    estimates = sums.estimates(1)
    words = estimates.error[0, 1:].max() / estimates.scores[0, 1:].max()
    assert estimates.shares[0] == pytest.approx(float(words), rel=1e-5)
