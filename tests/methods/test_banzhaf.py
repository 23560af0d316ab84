"""Tests of ``nibt.methods.coalition_values`` and ``nibt.methods.fixlip``, by enumeration."""

import itertools
from collections.abc import Callable

import numpy as np
import pytest
import torch

import nibt
from nibt.core.perturbation import masker
from nibt.core.side import Side
from nibt.errors import BadOption
from nibt.methods._coalitions import drawn_coalitions, least_squares, subsets
from nibt.methods.coalition_values import Banzhaf
from nibt.methods.fixlip import FIxLIP, Game, cross_coefficients
from tests import linear, tiny
from tests.suites import few

SHARES = pytest.mark.parametrize("share", [0.3, 0.5, 0.7])


def unit_encoder(units: int, seed: int, dim: int = 5) -> Callable[[np.ndarray], np.ndarray]:
    """Return a random nonlinear function of coalitions with unit embeddings."""
    draws = np.random.default_rng(seed)
    first, second = draws.normal(size=(units, 16)), draws.normal(size=(16, dim))

    def encode(shown: np.ndarray) -> np.ndarray:
        raw = np.tanh(shown @ first - 0.3) @ second
        return raw / np.linalg.norm(raw, axis=1, keepdims=True)

    return encode


def effects(encode: Callable[[np.ndarray], np.ndarray], units: int, share: float) -> np.ndarray:
    """Return the mean effect of each unit by its definition: over all coalitions of the others."""
    result = []
    for unit in range(units):
        total = 0.0
        for others in itertools.product([False, True], repeat=units - 1):
            chance = np.prod([share if kept else 1 - share for kept in others])
            both = [np.insert(np.array(others), unit, value)[None] for value in (True, False)]
            total = total + chance * (encode(both[0])[0] - encode(both[1])[0])
        result.append(total)
    return np.stack(result)


def exact_game(units: int, seed: int, share: float) -> Game:
    shown, weights = drawn_coalitions(units, 2**units, share, 0)
    return Game(shown, weights, unit_encoder(units, seed)(shown), share)


@SHARES
def test_table_has_the_coefficients_of_the_fit_of_order_two(share: float) -> None:
    """6 patches and 4 words, all 2^10 coalitions: the product of the vectors of both sides, each a regression of its
    embeddings, has the cross-modal coefficients of the full fit of order two, whose features are written out here.
    """
    image, text = exact_game(6, 1, share), exact_game(4, 2, share)
    rows, columns = np.divmod(np.arange(64 * 16), 16)
    kept = np.concatenate([image.coalitions[rows], text.coalitions[columns]], 1).astype(float)
    pairs = list(itertools.combinations(range(10), 2))
    features = np.stack([np.ones(len(kept)), *kept.T, *(kept[:, one] * kept[:, other] for one, other in pairs)], 1)
    scores = (image.embeddings[rows] * text.embeddings[columns]).sum(1)
    root = np.sqrt(image.weights[rows] * text.weights[columns])
    fit = np.linalg.lstsq(root[:, None] * features, root * scores, rcond=None)[0]
    wanted = np.array([[fit[11 + pairs.index((patch, 6 + word))] for word in range(4)] for patch in range(6)])
    of_image = least_squares(image.coalitions.astype(float), image.weights, image.embeddings)
    of_text = least_squares(text.coalitions.astype(float), text.weights, text.embeddings)
    np.testing.assert_allclose(of_image @ of_text.T, wanted, atol=1e-12)
    np.testing.assert_allclose(cross_coefficients(image, text, True), wanted, atol=1e-9)
    np.testing.assert_allclose(of_image, effects(unit_encoder(6, 1), 6, share), atol=1e-12)


def test_fit_of_all_pairs_is_the_product_of_two_regressions_for_drawn_coalitions() -> None:
    """Whatever the coalitions, if each side has more of them than units."""
    sides = []
    for seed, units, count in ((1, 6, 20), (2, 4, 12)):
        shown = np.random.default_rng(seed).random((count, units)) < 0.4
        sides.append(Game(shown, np.full(count, 1 / count), unit_encoder(units, seed)(shown), 0.4))
    vectors = [least_squares(one.coalitions.astype(float), one.weights, one.embeddings) for one in sides]
    np.testing.assert_allclose(cross_coefficients(sides[0], sides[1], True), vectors[0] @ vectors[1].T, atol=1e-8)


def _exact(of: Side, share: float) -> torch.Tensor:
    """Return the mean effect of each word of one caption, by enumeration of the model's own scores."""
    places = of.units.explained[0].nonzero()[:, 0].tolist()
    shown = subsets(len(places))
    keep = torch.ones(len(shown), 1, of.units.explained.shape[1])
    keep[:, 0, places] = torch.from_numpy(shown).float()
    values = masker(of, of.units)(keep)[:, 0].double().numpy()
    result = torch.zeros(of.units.explained.shape[1])
    for column, place in enumerate(places):
        others = np.delete(shown, column, 1).sum(1)
        chance = share**others * (1 - share) ** (len(places) - 1 - others)
        signs = np.where(shown[:, column], 1.0, -1.0)
        result[place] = float((signs * chance * values).sum())
    return result


@SHARES
@pytest.mark.parametrize("kind", few(["clip", "siglip", "bert"], ["siglip"]))
@pytest.mark.parametrize("method", ["least_squares", "means", "fixlip"])
def test_values_of_few_words_are_exact(method: str, kind: str, share: float) -> None:
    model = tiny.model(kind)
    opposite = model.image.encode(model.image.prepare([tiny.image()]))
    text = model.text.trace(model.text.prepare(["red cat on small mat"]))
    of = Side(model, text, lambda embedding: torch.nn.functional.cosine_similarity(embedding, opposite, dim=-1))
    ready = FIxLIP(share=share) if method == "fixlip" else Banzhaf(share=share, estimate=method)
    torch.testing.assert_close(ready(of).scores[0], _exact(of, share), atol=2e-6, rtol=1e-3)


@linear.both_sides
@pytest.mark.parametrize(
    "method",
    [Banzhaf(512), Banzhaf(40, share=0.3), Banzhaf(40), FIxLIP(512), FIxLIP(60, share=0.3)],
    ids=["exact", "sampled", "in pairs", "fixlip exact", "fixlip sampled"],
)
def test_banzhaf_gives_the_parts_of_a_linear_tower(method: Banzhaf | FIxLIP, of: Side) -> None:
    torch.testing.assert_close(method(of).scores, linear.parts(of), atol=1e-4, rtol=1e-4)


def test_estimates_improve_with_the_budget_and_least_squares_is_the_best() -> None:
    """On a random encoder of 14 units: the mean error of 8 seeds."""
    encode, exact = unit_encoder(14, 3), None
    shown, weights = drawn_coalitions(14, 2**14, 0.3, 0)
    exact = least_squares(shown.astype(float), weights, encode(shown))

    def error(budget: int, estimate: str, ridge: float = 0.0) -> float:
        errors = []
        for seed in range(8):
            method = Banzhaf(budget, share=0.3, estimate=estimate, seed=seed, ridge=ridge)
            drawn, own = method.coalitions(14)
            errors.append(np.linalg.norm(method.fit(drawn, own, encode(drawn), 0.0) - exact))
        return float(np.mean(errors))

    assert error(1024, "least_squares") < 0.6 * error(256, "least_squares") < 0.6 * 0.6 * error(64, "least_squares")
    assert error(256, "least_squares") < 0.7 * error(256, "means")
    assert error(16, "least_squares", ridge=4.0) < error(16, "least_squares")


def test_coalitions_of_half_come_in_pairs_and_others_have_their_share() -> None:
    shown, weights = drawn_coalitions(30, 2000, 0.3, 0)
    assert shown.mean() == pytest.approx(0.3, abs=0.01)
    assert weights.sum() == pytest.approx(1)
    shown, _ = drawn_coalitions(30, 2000, 0.5, 0)
    assert np.array_equal(shown[:1000], ~shown[1000:])
    every, weights = drawn_coalitions(3, 8, 0.3, 0)
    assert len(np.unique(every, axis=0)) == 8
    assert weights.sum() == pytest.approx(1)
    assert weights[0] == pytest.approx(0.7**3)


def test_few_coalitions_give_finite_values() -> None:
    """Fewer coalitions than units leave a choice, and a unit in all of them has no difference of means."""
    model = tiny.model("clip")
    for estimate in ("least_squares", "means"):
        answer = nibt.explain(model, tiny.image(), "a cat", "banzhaf", budget=2, estimate=estimate, share=0.01)
        assert answer.image.scores.isfinite().all()
        assert answer.text.scores.isfinite().all()


@pytest.mark.parametrize(
    ("method", "options", "message"),
    [
        ("banzhaf", {"share": 0}, r"share must be above 0 and below 1 \(got 0.0\)"),
        ("banzhaf", {"share": 1}, "share must be above 0 and below 1"),
        ("banzhaf", {"budget": 1}, r"budget must be between 2 and .* \(got 1\)"),
        ("banzhaf", {"ridge": -1}, r"ridge must be at least 0 \(got -1.0\)"),
        ("banzhaf", {"estimate": "median"}, r"estimate must be least_squares or means \(got 'median'\)"),
        ("fixlip", {"pairs": "few"}, r"pairs must be all or drawn \(got 'few'\)"),
        ("fixlip", {"seed": -1}, r"seed must be between 0 and .* \(got -1\)"),
    ],
)
def test_bad_options_are_refused(method: str, options: dict[str, object], message: str) -> None:
    with pytest.raises(BadOption, match=message):
        nibt.explain(tiny.model("clip"), tiny.image(), "a cat", method, **options)


def test_fixlip_refuses_more_coefficients_than_it_can_fit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("nibt.methods.fixlip.MOST_COEFFICIENTS", 60)
    with pytest.raises(
        BadOption, match=r"at most 60 coefficients \(got 16 units of the image and 2 of the caption, which have 172\)"
    ):
        nibt.regions(tiny.model("clip"), tiny.image(), "red cat", method="fixlip", budget=4)


def test_fixlip_refuses_more_features_than_fit_into_memory() -> None:
    """16,384 segments would need 8.6 GB for eight coalitions."""
    with pytest.raises(BadOption, match=r"134,225,920 features for each coalition of 16,384 units"):
        FIxLIP(8).coalitions(16_384)
    shown, _ = FIxLIP(512).coalitions(576)
    assert shown.shape == (512, 576)


@pytest.mark.parametrize("kind", ["clip", "siglip"])
def test_fixlip_table_equals_that_of_banzhaf(kind: str) -> None:
    """The same coalitions, fitted as pairs of both sides or one side at a time."""
    model, options = tiny.model(kind), {"budget": 60, "share": 0.4}
    actual = nibt.regions(model, tiny.image(), "a red cat", method="fixlip", **options)
    wanted = nibt.regions(model, tiny.image(), "a red cat", method="banzhaf", **options)
    size = float(wanted.table.abs().max())
    torch.testing.assert_close(actual.table, wanted.table, atol=1e-4 * size, rtol=0)
    assert actual.product == pytest.approx(wanted.product, abs=1e-6)


@pytest.mark.slow
def test_drawn_pairs_approach_the_same_table() -> None:
    model = tiny.model("clip")
    wanted = nibt.regions(model, tiny.image(), "red cat", method="fixlip", budget=4096).table

    def error(**options: object) -> float:
        table = nibt.regions(model, tiny.image(), "red cat", method="fixlip", **options).table
        return float((table - wanted).norm() / wanted.norm())

    few, many = error(budget=300, pairs="drawn"), error(budget=3000, pairs="drawn")
    assert many < 0.5 * few
    assert error(budget=300) < many, "all pairs of 300 coalitions are better than 3,000 drawn pairs"
