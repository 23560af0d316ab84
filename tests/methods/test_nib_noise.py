"""Tests of the noise of ``nibt.methods.nib``, which makes it a bottleneck of the family of M2IB and IBA."""

from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

import nibt
from nibt.core.perturbation import generator
from nibt.core.quadrature import nodes
from nibt.core.side import Side
from nibt.errors import BadOption
from nibt.methods._noise import draw, generators, information, moments
from nibt.methods._path import PathStage, products
from nibt.methods.m2ib import M2IB
from nibt.methods.nib import NIB
from nibt.registry import MethodSpec
from tests import axiom_towers, tiny
from tests.helpers import all_tokens, assert_close, both_sides, make_side
from tests.suites import few

DEVIATIONS = (1e-1, 1e-2, 1e-3, 1e-4)


def by_hand(of: Side, method: NIB, scale: Tensor | float) -> Tensor:
    """Return the scores of all rows: sample by sample, node by node, item by item."""
    (layer,) = method.layer
    cut, path = of.cut(layer), nodes(method.quadrature, method.steps, method.floor)
    baseline = of.baseline(method.baseline, layer, cut.hidden)
    draws = [generator(method.seed, row) for row in range(cut.hidden.shape[1])]
    drawn = [row.standard_normal((method.samples, cut.hidden.shape[2]), dtype=np.float32) for row in draws]
    scores = torch.zeros(cut.hidden.shape[:2], dtype=cut.hidden.dtype)
    for n in torch.tensor(np.stack(drawn, 1)):
        for lam, weight in zip(path.positions, path.weights, strict=True):
            z = baseline + lam * (cut.hidden - baseline) + method.deviation * (1 - lam) * scale * n
            z = z.detach().requires_grad_()
            (gradient,) = torch.autograd.grad(of.score(cut.rest(z[None])).sum(), z)
            e = baseline + method.deviation * scale * n
            scores += weight * ((cut.hidden - e) * gradient).sum(-1) / method.samples
    return scores.detach()


@both_sides
@pytest.mark.parametrize("quadrature", ["riemann", "gauss"])
@pytest.mark.parametrize("baseline", ["zero", "blank"])
@pytest.mark.parametrize("kind", few(["clip", "siglip", "convnext", "bert"], ["clip"]))
def test_noisy_nib_equals_its_formula(kind: str, baseline: str, quadrature: str, modality: str) -> None:
    of = make_side(tiny.model(kind), modality)
    method = NIB((1,), baseline, quadrature, 3, noise="unit", deviation=0.7, samples=3, seed=4)
    actual = method(of)
    assert_close(actual.scores, actual.units.keep(by_hand(of, method, 1.0)), share=2e-5)


@both_sides
@pytest.mark.parametrize("kind", ["clip", "siglip", "bert"])
def test_noise_of_features_has_their_deviation(kind: str, modality: str) -> None:
    """Channel by channel, over the rows of the item without padding."""
    of = make_side(tiny.model(kind), modality)
    hidden = of.cut(1).hidden
    tokens = of.tower.valid_tokens(of.inputs, hidden)
    scale = torch.stack([h[own].std(0, keepdim=True, correction=0) for h, own in zip(hidden, tokens, strict=True)])
    method = NIB((1,), "blank", "gauss", 2, noise="features", deviation=0.5, samples=2)
    actual = method(of)
    assert_close(actual.scores, actual.units.keep(by_hand(of, method, scale)), share=2e-5)


@both_sides
@pytest.mark.parametrize("options", [{}, {"quadrature": "late", "steps": 1}, {"tolerance": 0.01}], ids=str)
@pytest.mark.parametrize("noise", ["unit", "features"])
def test_noise_without_deviation_is_no_noise_to_the_bit(noise: str, options: dict[str, Any], modality: str) -> None:
    of = make_side(tiny.model("clip"), modality)
    plain = NIB((1,), **options)(of)
    still = NIB((1,), noise=noise, deviation=0.0, samples=3, seed=2, **options)(of)
    assert torch.equal(plain.scores, still.scores)
    assert plain.path == still.path
    assert torch.equal(plain.scores, NIB((1,), deviation=3.0, samples=7, seed=9, **options)(of).scores)


@both_sides
def test_noisy_scores_are_shares_of_the_expected_change(modality: str) -> None:
    """The sum over all rows is S minus the mean of S over states of noise only."""
    of = make_side(tiny.model("clip"), modality)
    method = NIB((1,), "blank", "gauss", 32, noise="unit", deviation=0.5, samples=4)
    path, cut = method(of).path, of.cut(1)
    noise = 0.5 * draw(generators(0, cut.hidden.shape[1]), 4, cut.hidden)[:, None]
    starts = of.baseline("blank", 1, cut.hidden) + noise
    assert path is not None
    torch.testing.assert_close(path.at_baseline, of.score(cut.rest(starts)).mean(0))
    torch.testing.assert_close(all_tokens(path), of.value() - path.at_baseline, atol=2e-4, rtol=0)


@both_sides
def test_noisy_nib_meets_a_tolerance(modality: str) -> None:
    of = make_side(tiny.model("clip"), modality)
    method = NIB((1,), "blank", "gauss", 1, tolerance=0.02, noise="unit", deviation=0.3, samples=3)
    path = method(of).path
    assert path is not None
    assert (path.steps > 1).any()
    assert ((path.gap - path.special_tokens).abs() <= 0.02 * 2).all()


def slopes(errors: list[Tensor]) -> Tensor:
    """Return the slope of the logarithm of errors against that of the deviations, for each of several samples."""
    logs = torch.stack(errors).log10()
    return logs[:-1] - logs[1:]  # from one deviation to the next, which is a tenth of it


@both_sides
def test_map_becomes_deterministic_as_the_noise_goes_to_zero(modality: str) -> None:
    """The error of a sample is of first order in the deviation. Its first-order term is linear in the noise, whose mean
    is 0: that of a sample and its mirror image is of second order, and so is the error of the expected map.
    """
    of = axiom_towers.side(modality)
    cut, method = of.cut(3), NIB((3,), "blank", "gauss", 8)
    baseline = of.baseline("blank", 3, cut.hidden)

    def scores(start: Tensor) -> Tensor:
        return method.attribute_stages(PathStage(of, 3, start, cut, of.score), products, "zero")[0]

    plain = scores(baseline)
    single, mirrored = [], []
    for deviation in DEVIATIONS:
        noise = deviation * draw(generators(0, cut.hidden.shape[1]), 5, cut.hidden)
        up, down = (torch.stack([scores(baseline + sign * one) for one in noise]) for sign in (1, -1))
        single.append((up - plain).abs().amax((1, 2)))
        mirrored.append(((up + down) / 2 - plain).abs().amax((1, 2)))
    torch.testing.assert_close(slopes(single)[1:], torch.ones(2, 5, dtype=torch.double), atol=0.05, rtol=0)
    torch.testing.assert_close(slopes(mirrored)[1:], torch.full((2, 5), 2.0, dtype=torch.double), atol=0.05, rtol=0)


@pytest.mark.slow
@both_sides
def test_more_samples_are_nearer_to_the_deterministic_map(modality: str) -> None:
    """At a small deviation, the error is that of a mean over samples: it falls with the root of their number."""
    of = axiom_towers.side(modality)
    noisy = partial(NIB, (3,), "blank", "gauss", 4, noise="unit", deviation=1e-4)
    plain = NIB((3,), "blank", "gauss", 4)(of).scores
    errors = [
        torch.stack([(noisy(samples=samples, seed=seed)(of).scores - plain).square().mean() for seed in range(8)])
        for samples in (4, 64)
    ]
    ratio = float((errors[0].mean() / errors[1].mean()).sqrt())
    assert 2.5 < ratio < 6.5, "16 times the samples: a quarter of the error"


def test_bottlenecks_have_the_same_channel() -> None:
    """With the baseline zero and the deviation 1, the states of NIB are those of M2IB at the same l and seed."""
    of = make_side(tiny.model("clip"), "image")
    cut, seen = of.cut(1), []

    def score(embedding: Tensor) -> Tensor:
        seen.append(embedding.detach())
        return of.score(embedding)

    watched = replace(of, score=score)
    M2IB((1,), steps=1, samples=2, seed=3)(watched)
    keep = torch.full_like(cut.hidden, 5.0).sigmoid()
    noise = NIB((1,), "zero", noise="unit", samples=2, seed=3).starts(of, 1, cut.hidden)
    torch.testing.assert_close(seen[0], cut.rest(keep * cut.hidden + (1 - keep) * noise).detach())


@pytest.mark.parametrize("noise", ["unit", "features"])
@pytest.mark.parametrize("kind", few(["clip", "siglip", "bert", "convnext"], ["clip"]))
def test_noisy_nib_is_repeatable_and_independent_of_the_batch(kind: str, noise: str) -> None:
    model, images, captions = (
        tiny.model(kind),
        [tiny.image(seed=seed) for seed in (1, 2)],
        ["cat", "two red cars on a mat"],
    )
    explain: Any = partial(nibt.explain, noise=noise, samples=3, deviation=0.5)
    together, again = (explain(model, images, captions, seed=5) for _ in range(2))
    other = explain(model, images, captions, seed=6)
    for index, (image, caption) in enumerate(zip(images, captions, strict=True)):
        alone = explain(model, image, caption, seed=5)
        for side in ("image", "text"):
            actual, expected = getattr(together[index], side).scores, getattr(alone, side).scores
            assert torch.equal(actual, getattr(again[index], side).scores)
            assert not torch.allclose(actual, getattr(other[index], side).scores, rtol=1e-3)
            length = min(len(actual), len(expected))
            torch.testing.assert_close(
                actual[:length], expected[:length], rtol=0, atol=1e-5 * float(expected.abs().max())
            )
        assert alone.method["image"]["seed"] == 5


def test_moments_are_those_of_the_rows_of_an_item() -> None:
    hidden = torch.randn(2, 6, 3, generator=torch.Generator().manual_seed(0))
    tokens = torch.tensor([[True] * 6, [True] * 4 + [False] * 2])[..., None]
    mean, deviation = moments(hidden, tokens)
    for item, length in enumerate((6, 4)):
        torch.testing.assert_close(mean[item, 0], hidden[item, :length].mean(0))
        torch.testing.assert_close(deviation[item, 0], hidden[item, :length].std(0, correction=0))


def channel(lam: Tensor, standard: Tensor) -> Tensor:
    """Return the information of z = l h + (1 - l) e about a standardized h."""
    return information(lam * standard, 2 * (1 - lam).log())


@pytest.mark.parametrize("standard", [-3.0, -0.2, 0.0, 1.0, 5.0])
@pytest.mark.parametrize("lam", [0.1, 0.5, 0.9, 0.99])
def test_information_equals_an_integral(lam: float, standard: float) -> None:
    """The divergence of the density of z given h from that of the noise, as an integral over z."""
    mean, deviation = lam * standard, 1 - lam
    z = np.linspace(mean - 12 * deviation, mean + 12 * deviation, 20_001)
    density = np.exp(-0.5 * ((z - mean) / deviation) ** 2) / (deviation * np.sqrt(2 * np.pi))
    log_ratio = -0.5 * ((z - mean) / deviation) ** 2 - np.log(deviation) + 0.5 * z**2
    nats = np.trapezoid(density * log_ratio, z)
    actual = channel(torch.tensor(lam, dtype=torch.double), torch.tensor(standard, dtype=torch.double))
    assert float(actual) == pytest.approx(nats, rel=1e-6)


def test_information_of_any_channel_is_that_of_torch() -> None:
    """With another mean and another deviation of the noise, h is standardized by them."""
    r, s, lam = (torch.tensor(number, dtype=torch.double) for number in (0.7, 2.5, 0.6))
    h = torch.linspace(-4, 4, 9, dtype=torch.double)
    passed = torch.distributions.Normal(lam * h + (1 - lam) * r, (1 - lam) * s)
    nats = torch.distributions.kl_divergence(passed, torch.distributions.Normal(r, s))
    torch.testing.assert_close(channel(lam, (h - r) / s), nats)


def test_information_grows_from_zero_without_limit() -> None:
    lam, h = torch.linspace(0, 1, 200, dtype=torch.double), torch.linspace(-3, 3, 13, dtype=torch.double)[:, None]
    nats = channel(lam[:-1], h)
    assert not nats[:, 0].any()
    assert (nats.diff(dim=1) > 0).all()
    assert channel(torch.tensor(1 - 1e-12, dtype=torch.double), h).min() > 25
    assert torch.equal(nats, nats.flip(0)), "the sign of h does not count"


def test_nib_is_random_with_noise_only() -> None:
    assert not MethodSpec("nib").is_random
    assert not MethodSpec("nib", options={"noise": "none", "image_noise": None}).is_random
    assert MethodSpec("nib", options={"noise": "unit"}).is_random
    assert MethodSpec("nib", options={"text_noise": "features"}).is_random


def test_noise_has_a_cost() -> None:
    noisy = NIB((1,), steps=5, noise="unit", samples=3)
    assert noisy.forwards(depth=2, units=9) == pytest.approx(1 + 3 * 11 / 2)
    assert replace(noisy, deviation=0.0).forwards(2, 9) == NIB((1,), steps=5).forwards(2, 9) == 6


@pytest.mark.parametrize("side", ["noise", "image_noise"])
def test_tables_reject_noise(side: str) -> None:
    model, options = tiny.model("clip"), {side: "unit"}
    message = r"noise must be none where embeddings are narrowed \(got 'unit'\)"
    with pytest.raises(BadOption, match=message):
        nibt.regions(model, tiny.image(), "two cats", **options)
    with pytest.raises(BadOption, match=message):
        nibt.contributions(model, tiny.image(), **options)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"noise": "pink"}, r"noise must be none, unit or features \(got 'pink'\)"),
        ({"deviation": -1}, r"deviation must be at least 0 \(got -1.0\)"),
        ({"samples": 0}, r"samples must be between 1 and .* \(got 0\)"),
        ({"noise": "unit", "seed": -1}, r"seed must be between 0 and .* \(got -1\)"),
    ],
)
def test_noisy_nib_rejects_bad_options(options: dict[str, Any], message: str) -> None:
    with pytest.raises(BadOption, match=message):
        nibt.explain(tiny.model("clip"), tiny.image(), "a cat", **options)
