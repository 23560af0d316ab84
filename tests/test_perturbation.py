"""Methods that hide and look: RISE, occlusion and Shapley values; and the controls, which do not even look."""

import itertools
import math
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from captum.attr import FeatureAblation

import linear
import nibt
import tiny
from helpers import both_sides, make_side, varied_kinds
from nibt.core import quadrature as paths
from nibt.core.perturbation import masker
from nibt.core.side import Side
from nibt.data.units import Grid, Words
from nibt.errors import BadOption
from nibt.methods._checks import generator
from nibt.methods.centre import Centre
from nibt.methods.occlusion import Occlusion
from nibt.methods.ones import Ones
from nibt.methods.random import Random
from nibt.methods.rise import RISE, _stretched
from nibt.methods.shapley import Shapley, _coalitions, _regression


def explained(of: Side, scores: torch.Tensor) -> torch.Tensor:
    """The scores of the explained units, one after the other."""
    return scores[of.units.explained] if isinstance(of.units, Words) else scores.flatten()


# ------------------------------------------------------------------------------------------------------- masking


@both_sides
@varied_kinds
def test_a_stack_of_masks_gives_what_each_gives(kind: str, modality: str) -> None:
    of = make_side(tiny.model(kind), modality)
    width = of.units.count if isinstance(of.units, Grid) else of.units.explained.shape[1]
    keep = torch.rand(5, 2, width, generator=torch.Generator().manual_seed(0))
    score = masker(of, of.units)
    together = score(keep)
    assert together.shape == (5, 2)
    for one, found in zip(keep, together, strict=True):
        torch.testing.assert_close(score(one), found, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(score(torch.ones(2, width)), of.value(), atol=1e-6, rtol=1e-5)


METHODS = [RISE(37), Occlusion(), Shapley(60)]


@both_sides
@pytest.mark.parametrize("kind", ["clip", "siglip naflex", "convnext", "coca"])
@pytest.mark.parametrize("method", METHODS, ids=lambda method: type(method).__name__)
def test_the_budget_changes_nothing(kind: str, modality: str, method: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    of = make_side(tiny.model(kind), modality)
    large = method(of).scores
    calls = []
    hook = of.tower.blocks[0].register_forward_hook(lambda *_: calls.append(1))
    try:
        for name, value in (("AT_ONCE", 3), ("BUDGET", 1)):
            monkeypatch.setattr(paths, name, value)
            calls.clear()
            torch.testing.assert_close(method(of).scores, large, atol=1e-6, rtol=1e-5)
        assert len(calls) >= 3, "the budget is kept: one mask at a time"
    finally:
        hook.remove()


# ---------------------------------------------------------------------------------------------------------- RISE


@both_sides
@pytest.mark.parametrize("kind", ["clip", "own vit oblong", "bert"])
def test_rise_is_its_formula_one_mask_at_a_time(kind: str, modality: str) -> None:
    of = make_side(tiny.model(kind), modality)
    found = RISE(6, share=0.3, cells=4, seed=3)(of)
    if modality == "text":
        stem, explained = of.stem(), of.units.explained
        rows = [generator(3, row).random(6) < 0.3 for row in range(explained.shape[1])]
        masks = torch.tensor(np.stack(rows, 1)).float()
        total = 0
        for mask in masks:
            state = stem.hidden * torch.where(explained, mask, torch.ones(()))[..., None]
            total = total + of.at_end("zero", None, stem, state)[:, None] * mask
        wanted = torch.where(explained, total / (6 * 0.3), 0.0)
    else:
        pixels = of.inputs.values
        height, width = pixels.shape[-2:]
        draws = generator(3)
        grids = torch.tensor(draws.random((6, 4, 4)) < 0.3).float()
        shifts = draws.integers(0, [height // 4, width // 4], (6, 2))
        total = torch.zeros(2, height, width)
        for grid, (top, left) in zip(grids, shifts, strict=True):
            large = F.interpolate(grid[None, None], (5 * height // 4, 5 * width // 4), mode="bilinear")[0, 0]
            mask = large[top : top + height, left : left + width]
            with torch.no_grad():
                total += (
                    of.score(
                        of.model.module.encode_image(pixels * mask)
                        if kind != "clip"
                        else of.tower.run(type(of.inputs)(pixels * mask))
                    )[:, None, None]
                    * mask
                )
        assert (found.units.rows, found.units.columns) == (16, 16)
        wanted = F.adaptive_avg_pool2d(total / (6 * 0.3), (16, 16)).flatten(1)
    torch.testing.assert_close(found.scores, wanted, atol=1e-5, rtol=1e-4)


@both_sides
@varied_kinds
def test_rise_that_keeps_everything_finds_the_score_everywhere(kind: str, modality: str) -> None:
    of = make_side(tiny.model(kind), modality)
    found = RISE(3, share=1.0)(of)
    everywhere = of.value()[:, None].expand_as(found.scores)
    wanted = found.units.keep(everywhere) if isinstance(found.units, Words) else everywhere
    torch.testing.assert_close(found.scores, wanted, atol=1e-6, rtol=1e-5)


def test_rise_on_a_linear_tower_tends_to_occlusion() -> None:
    """With S = sum_s a_s m_s and independent masks, E[S m_t] / p = p sum_s a_s + (1 - p) a_t."""
    whole = linear.text_side([(3, 1, 4, 1, 5)])
    parts = Occlusion()(whole).scores[0, 1:]
    start = whole.value()[0] - parts.sum()  # always kept; without it fewer masks will do
    of = Side(whole.model, whole.trace, lambda embedding: embedding[..., 0] - start)
    for share in (0.2, 0.5):
        found = RISE(20_000, share=share)(of).scores[0, 1:]
        wanted = share * parts.sum() + (1 - share) * parts
        assert (found - wanted).abs().max() < 0.1 * (wanted - wanted.mean()).abs().max()


def test_rises_map_is_no_coarser_than_its_masks() -> None:
    """The squares that pixels are averaged over lose next to nothing of the map of pixels."""
    grids, shifts = RISE(500)._grids(224, 224)
    weights = torch.rand(500, generator=torch.Generator().manual_seed(1))
    pixels = (weights[:, None, None] * _stretched(grids, shifts, 224, 224)).sum(0)[None, None]
    back = F.interpolate(F.adaptive_avg_pool2d(pixels, (32, 32)), (224, 224), mode="bilinear")
    lost = (back - pixels).abs() / (pixels.max() - pixels.min())
    assert lost.mean() < 0.01
    assert lost.max() < 0.1
    assert RISE(2)(linear.image_side(1)).units == Grid(linear.ROWS * linear.PATCH, linear.COLUMNS * linear.PATCH)


def test_rise_keeps_a_tenth_of_the_cells_and_shifts_by_less_than_a_cell() -> None:
    grids, shifts = RISE(6000)._grids(224, 448)
    assert grids.mean() == pytest.approx(0.1, abs=0.005)
    assert set(grids.unique().tolist()) == {0.0, 1.0}
    tops, lefts = zip(*shifts, strict=True)
    assert set(tops) == set(range(28))
    assert set(lefts) == set(range(56))


# ----------------------------------------------------------------------------------------------------- occlusion


@pytest.mark.parametrize("kind", ["clip", "siglip", "own vit", "own vit oblong"])
def test_occlusion_of_patches_is_captums_ablation(kind: str) -> None:
    of = make_side(tiny.model(kind), "image")
    pixels, units = of.inputs.values, of.units
    patches = torch.arange(units.count).reshape(1, 1, units.rows, units.columns)
    features = F.interpolate(patches.float(), pixels.shape[-2:]).long().expand(1, 3, -1, -1)

    def forward(values: torch.Tensor) -> torch.Tensor:
        return of.score(of.tower.encode(type(of.inputs)(values)))

    wanted = FeatureAblation(forward).attribute(pixels, 0.0, feature_mask=features)
    first = torch.stack([(features[0, 0] == unit).flatten().int().argmax() for unit in range(units.count)])
    torch.testing.assert_close(Occlusion()(of).scores, wanted[:, 0].flatten(1)[:, first], atol=1e-6, rtol=1e-4)


@pytest.mark.parametrize("kind", ["clip", "siglip", "own text both ways", "bert"])
def test_occlusion_of_words_is_captums_ablation(kind: str) -> None:
    of = make_side(tiny.model(kind), "text")
    stem = of.stem()
    features = torch.arange(stem.hidden.shape[1])[None, :, None].expand(1, -1, stem.hidden.shape[2])
    padding = of.tower.embedder(torch.tensor(of.tower.pad[0])).detach().expand_as(stem.hidden)
    wanted = FeatureAblation(lambda states: of.at_end("zero", None, stem, states)).attribute(
        stem.hidden, padding, feature_mask=features
    )
    torch.testing.assert_close(Occlusion()(of).scores, stem.units.keep(wanted[..., 0]), atol=1e-6, rtol=1e-4)


def test_a_trunk_without_patches_is_occluded_by_the_cells_of_its_last_map() -> None:
    of = make_side(tiny.model("convnext"), "image")
    found = Occlusion()(of)
    assert found.units == of.cut(of.tower.depth).units
    keep = torch.ones(2, found.units.count)
    keep[:, 1] = 0.0
    torch.testing.assert_close(found.scores[:, 1], of.value() - masker(of, found.units)(keep), atol=1e-6, rtol=1e-4)


# ------------------------------------------------------------------------------------------------- Shapley values


def _exact(of: Side) -> torch.Tensor:
    """The mean, over all orders of the units of one caption, of what each adds when its turn comes."""
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
    there = model.image.encode(model.image.prepare([tiny.image()]))
    text = model.text.trace(model.text.prepare(["red cat on small mat"]))
    of = Side(model, text, lambda embedding: F.cosine_similarity(embedding, there, dim=-1))
    torch.testing.assert_close(Shapley()(of).scores[0], _exact(of), atol=2e-6, rtol=1e-3)


@both_sides
@varied_kinds
@pytest.mark.parametrize("budget", [4, 40, 512])
def test_shapley_values_add_up_whatever_the_budget(kind: str, modality: str, budget: int) -> None:
    of = make_side(tiny.model(kind), modality)
    scores = Shapley(budget)(of).scores
    width = scores.shape[1]
    nothing = masker(of, of.units)(torch.zeros(2, width))
    torch.testing.assert_close(scores.sum(1), of.value() - nothing, atol=3e-6, rtol=1e-4)


def _game(players: int, pairs_only: bool) -> Any:
    """A game in which players 0 and 1 are alike, and the last does nothing."""
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
def test_shapley_axioms(pairs_only: bool, budget: int, within: float) -> None:
    """Players that are alike are worth the same, one that does nothing nothing. What pairs of players make together
    is shared by halves, which a coalition and its complement find exactly even where few are drawn.
    """
    game = _game(8, pairs_only)
    found = _values(game, 8, budget)
    assert found.sum() == pytest.approx(float(game(np.ones((1, 8)))[0]), abs=1e-9)
    assert abs(found[0] - found[1]) <= within
    assert abs(found[-1]) <= within
    assert np.abs(found).max() > 10 * within


def test_the_estimate_gets_better_with_the_budget() -> None:
    game = _game(12, pairs_only=False)
    exact = _values(game, 12, 2**12)
    errors = [
        np.mean([np.linalg.norm(_values(game, 12, budget, seed) - exact) for seed in range(8)])
        for budget in (64, 256, 1024)
    ]
    assert errors[2] < 0.75 * errors[1] < 0.75 * 0.75 * errors[0]
    assert errors[2] < 0.05 * np.linalg.norm(exact)


@linear.both_sides
@pytest.mark.parametrize("method", [Occlusion(), Shapley(512), Shapley(40)], ids=["occlusion", "exact", "sampled"])
def test_complete_methods_agree_on_a_linear_tower(method: Any, of: Side) -> None:
    torch.testing.assert_close(method(of).scores, linear.parts(of), atol=1e-4, rtol=1e-4)


# ------------------------------------------------------------------------------------------------------- controls


@both_sides
@varied_kinds
def test_controls_look_at_nothing(kind: str, modality: str) -> None:
    of = make_side(tiny.model(kind), modality)
    passes = []
    hook = of.tower.blocks[0].register_forward_hook(lambda *_: passes.append(1))
    try:
        ones, centre, drawn = Ones()(of), Centre()(of), Random()(of)
    finally:
        hook.remove()
    assert not passes
    assert (explained(of, ones.scores) == 1).all()
    for answer in (centre, drawn):
        found = explained(of, answer.scores)
        assert ((found > 0) & (found <= 1)).all()
        assert not answer.special_share.any()
    assert explained(of, drawn.scores).unique().numel() == explained(of, drawn.scores).numel()


def test_the_centre_is_a_bell_on_the_grid() -> None:
    of = linear.image_side(1)
    grid = Centre(0.5)(of).grid[0]
    assert grid.shape == (2, 3)
    outer, inner = math.exp(-(1 + 1) / 0.5), math.exp(-1 / 0.5)
    torch.testing.assert_close(grid, torch.tensor([[outer, inner, outer]] * 2))


def test_the_centre_of_a_caption_is_that_of_its_own_words() -> None:
    scores = Centre(1.0)(linear.text_side([(3, 1, 4, 1, 5), (2, 6), (7,)])).scores
    edge = math.exp(-0.5)
    torch.testing.assert_close(scores[1], torch.tensor([0, edge, edge, 0, 0, 0]))
    torch.testing.assert_close(scores[2], torch.tensor([0, 1.0, 0, 0, 0, 0]))
    torch.testing.assert_close(scores[0, 1:], torch.tensor([edge, math.exp(-0.125), 1.0, math.exp(-0.125), edge]))


def test_random_scores_are_an_items_own() -> None:
    images, captions = [tiny.image(seed=seed) for seed in (1, 2)], list(tiny.CAPTIONS[:2])
    together = nibt.explain(tiny.model("clip"), images, captions, "random")
    alone = [nibt.explain(tiny.model("clip"), *pair, "random") for pair in zip(images, captions, strict=True)]
    other = nibt.explain(tiny.model("clip"), images[0], captions[0], "random", seed=1)
    for one, single in zip(together, alone, strict=True):
        assert torch.equal(one.image.scores, single.image.scores)
        assert [word.score for word in one.words] == [word.score for word in single.words]
    assert not torch.equal(together[0].image.scores, together[1].image.scores)
    assert not torch.equal(together[0].image.scores, other.image.scores)
    assert other.method["image"] == {"seed": 1}


def test_random_scores_are_uniform() -> None:
    of = linear.image_side(2000)
    scores = Random()(of).scores
    assert scores.mean() == pytest.approx(0.5, abs=0.02)
    assert scores.var() == pytest.approx(1 / 12, abs=0.005)


# ------------------------------------------------------------------------------------------------------ all of them

SMALL: dict[str, dict[str, Any]] = {
    "rise": {"masks": 20},
    "occlusion": {},
    "shapley": {"budget": 30},
    "random": {},
    "centre": {},
    "ones": {},
}


@pytest.mark.parametrize("method", SMALL)
def test_nobodys_generator_is_touched(method: str) -> None:
    before = torch.get_rng_state(), np.random.get_state()[1].copy()  # beartype itself draws from Python's own
    nibt.explain(tiny.model("clip"), tiny.image(), "two cars", method, **SMALL[method])
    assert torch.equal(before[0], torch.get_rng_state())
    assert np.array_equal(before[1], np.random.get_state()[1])


@pytest.mark.parametrize("method", ["rise", "shapley"])
def test_seeds_matter_and_are_recorded(method: str) -> None:
    first, again, other = (
        nibt.explain(tiny.model("clip"), tiny.image(), tiny.CAPTIONS[2], method, seed=seed, **SMALL[method])
        for seed in (4, 4, 5)
    )
    assert first.method["image"]["seed"] == first.method["text"]["seed"] == 4
    for modality in ("image", "text"):
        assert torch.equal(getattr(first, modality).scores, getattr(again, modality).scores)
        assert not torch.equal(getattr(first, modality).scores, getattr(other, modality).scores)


@pytest.mark.parametrize(
    ("method", "options", "told"),
    [
        ("rise", {"masks": 0}, r"masks must be at least 1 \(got 0\)"),
        ("rise", {"share": 0}, "share must lie above 0"),
        ("rise", {"share": 1.5}, "at most at 1"),
        ("rise", {"cells": 0}, "cells must be at least 1"),
        ("rise", {"seed": -1}, "seed must be at least 0"),
        ("shapley", {"budget": 1}, "budget must be at least 2"),
        ("shapley", {"seed": -1}, "seed must be at least 0"),
        ("random", {"seed": -1}, "seed must be at least 0"),
        ("centre", {"spread": 0}, "spread must be above 0"),
    ],
)
def test_bad_options_are_refused(method: str, options: dict[str, Any], told: str) -> None:
    with pytest.raises(BadOption, match=told):
        nibt.explain(tiny.model("clip"), tiny.image(), "a cat", method, **options)


def test_rise_draws_as_many_masks_as_the_paper() -> None:
    for variant in ("default", "paper"):
        masks = {
            tower.modality: RISE.configured(tower, variant, {}, {})
            for tower in (tiny.model("clip").image, tiny.model("clip").text)
        }
        assert masks == {"image": RISE(6000, 0.1, 8, 0), "text": RISE(200, 0.1, 8, 0)}
