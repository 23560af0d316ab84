"""Tests of ``nibt.methods.m2ib``."""

import math
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F

import nibt
from nibt.core import side as sides
from nibt.core.perturbation import generator
from nibt.core.side import Side
from nibt.errors import BadOption, Unsupported
from nibt.methods.m2ib import M2IB
from tests import linear, tiny
from tests.helpers import Golden, both_sides, make_side
from tests.suites import few


def information(a: torch.Tensor, hidden: torch.Tensor) -> torch.Tensor:
    """Return the divergence of each element, as in the paper."""
    keep = 1 / (1 + (-a).exp())
    m, v = keep * hidden, (1 - keep) ** 2
    return -0.5 * (1 + v.log() - m**2 - v)


@both_sides
@pytest.mark.parametrize("kind", ["clip", "siglip", "own vit", "convnext", "bert"])
def test_m2ib_with_one_step_is_the_initial_information(kind: str, modality: str) -> None:
    """The score is that of the last forward pass, and the first one comes before any learning."""
    of = make_side(tiny.model(kind), modality)
    layer = of.tower.depth - 1
    cut = of.cut(layer)
    own = of.tower.valid_tokens(of.inputs, cut.hidden)[..., None]
    wanted = (information(torch.full_like(cut.hidden, 5.0).double(), cut.hidden.double()) * own).sum(-1).float()
    for beta, seed in ((0.1, 0), (3.0, 5)):
        actual = M2IB((layer,), beta=beta, steps=1, seed=seed)(of)
        torch.testing.assert_close(actual.scores, actual.units.keep(wanted), rtol=1e-3, atol=1e-4)


@both_sides
@pytest.mark.parametrize("steps", [2, 3])
def test_m2ib_equals_its_loss_and_adam(modality: str, steps: int) -> None:
    """The same computation without batches: one item and one noisy state at a time, and Adam as in its paper."""
    of = make_side(tiny.model("clip"), modality)
    cut, samples, beta = of.cut(1), 4, 0.1
    own = of.tower.valid_tokens(of.inputs, cut.hidden)[..., None].float()
    noise = [generator(2, row) for row in range(cut.hidden.shape[1])]
    a = torch.full_like(cut.hidden, 5.0)
    first, second = torch.zeros_like(a), torch.zeros_like(a)
    for step in range(1, steps + 1):
        a = a.detach().requires_grad_()
        bits = information(a, cut.hidden)
        fits = []
        drawn = [row.standard_normal((samples, cut.hidden.shape[2]), dtype=np.float32) for row in noise]
        for e in torch.tensor(np.stack(drawn, 1)):
            z = a.sigmoid() * cut.hidden + (1 - a.sigmoid()) * e
            fits.append(of.score(cut.rest(z[None]))[0])
        loss = beta * (bits * own).sum((1, 2)) / (own.sum((1, 2)) * a.shape[2]) - torch.stack(fits).mean(0)
        (gradient,) = torch.autograd.grad(loss.sum(), a)
        first, second = 0.9 * first + 0.1 * gradient, 0.999 * second + 0.001 * gradient**2
        a = a - (first / (1 - 0.9**step)) / ((second / (1 - 0.999**step)).sqrt() + 1e-8)
    actual = M2IB((1,), beta, steps, samples, seed=2)(of)
    torch.testing.assert_close(actual.scores, actual.units.keep((bits * own).sum(-1).detach()), rtol=5e-3, atol=1e-3)


@pytest.mark.parametrize("of", [linear.image_side(1), linear.text_side([(3, 1, 4, 1, 5)])], ids=["image", "text"])
def test_m2ib_without_a_price_follows_the_score(of: Side) -> None:
    """For a linear S the gradient by a is l (1 - l) w (h - e), so each element moves to the sign of w (h - mean e)."""
    cut = of.cut(1)
    drawn = [
        generator(0, row).standard_normal((10, cut.hidden.shape[2]), dtype=np.float32)
        for row in range(cut.hidden.shape[1])
    ]
    slope = 2 * of.tower.root.weights[: cut.hidden.shape[1]] * (cut.hidden - torch.tensor(np.stack(drawn)).mean(1))
    wanted = information(5 + slope.sign().detach(), cut.hidden).sum(-1)
    wanted = wanted * of.tower.valid_tokens(of.inputs, cut.hidden)
    actual = M2IB((1,), beta=0.0, steps=2)(of)
    torch.testing.assert_close(actual.scores, actual.units.keep(wanted), rtol=1e-3, atol=1e-3)


@both_sides
def test_m2ib_with_a_high_price_drops_all_units_equally(modality: str) -> None:
    of = make_side(tiny.model("clip"), modality)
    actual = M2IB((1,), beta=1e6, steps=2)(of)
    cut = of.cut(1)
    bits = information(torch.full_like(cut.hidden, 4.0), cut.hidden)
    wanted = (bits * of.tower.valid_tokens(of.inputs, cut.hidden)[..., None]).sum(-1)
    torch.testing.assert_close(actual.scores, actual.units.keep(wanted), rtol=1e-3, atol=1e-3)


@both_sides
def test_m2ib_keeps_less_information_at_a_higher_price(modality: str) -> None:
    of = make_side(tiny.model("clip"), modality)
    kept = [M2IB((1,), beta=beta)(of).scores.sum() for beta in (0.01, 1.0, 100.0)]
    assert kept[0] > kept[1] > kept[2] > 0


@both_sides
def test_m2ib_scores_stay_finite_after_many_steps(modality: str) -> None:
    scores = M2IB((1,), steps=60)(make_side(tiny.model("clip"), modality)).scores
    assert scores.isfinite().all()
    assert (scores >= 0).all()


@both_sides
@pytest.mark.parametrize("kind", few(["clip", "siglip naflex", "convnext", "bert"], ["clip"]))
def test_m2ib_is_independent_of_the_batch_budget(kind: str, modality: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A step of Adam depends on the ratio of gradients, not on their size, so the rounding of a small one shows. The
    tolerance is that of batches.
    """
    of = make_side(tiny.model(kind), modality)
    large = M2IB((1,), samples=7)(of).scores
    for name, value in (("AT_ONCE", 6), ("BUDGET", 1)):
        monkeypatch.setattr(sides, name, value)
        actual = M2IB((1,), samples=7)(of).scores
        torch.testing.assert_close(actual, large, rtol=0, atol=1e-5 * float(large.abs().max()))


def test_m2ib_averages_seeds() -> None:
    of = make_side(tiny.model("clip"), "image")
    single = [M2IB((1,), seed=seed)(of).scores for seed in (3, 4, 5)]
    torch.testing.assert_close(M2IB((1,), seed=3, seeds=3)(of).scores, torch.stack(single).mean(0))
    assert not torch.allclose(single[0], single[1], rtol=1e-3)


def test_m2ib_averages_layers() -> None:
    of = make_side(tiny.model("clip"), "image")
    single = [M2IB((layer,))(of).scores for layer in (0, 2)]
    torch.testing.assert_close(M2IB((0, 2))(of).scores, torch.stack(single).mean(0))
    with pytest.raises(Unsupported, match="different grids"):
        M2IB((0, 3))(make_side(tiny.model("convnext"), "image"))


def test_m2ib_with_feature_noise_ignores_the_scale_of_channels() -> None:
    """The information is that of standardized states, as in the bottleneck of Schulz et al."""
    of = make_side(tiny.model("clip"), "image")
    cut = of.cut(1)
    h = (cut.hidden - cut.hidden.mean(1, keepdim=True)) / cut.hidden.std(1, keepdim=True, correction=0)
    actual = M2IB((1,), steps=1, noise="features")(of)
    wanted = information(torch.full_like(h, 5.0), h).sum(-1)
    torch.testing.assert_close(actual.scores, actual.units.keep(wanted), rtol=1e-3, atol=1e-3)
    assert not torch.allclose(actual.scores, M2IB((1,), steps=1)(of).scores, rtol=1e-2)


def test_m2ib_feature_noise_has_mean_and_deviation_of_the_item() -> None:
    """The noise has the statistics of the item itself, channel by channel, without padding."""
    text = tiny.model("clip").text
    trace = text.trace(text.prepare(["cat", "a small gray bird sleeping on the red mat"]))
    hidden = trace.cut(1).hidden
    own = text.valid_tokens(trace.inputs, hidden)[..., None]
    mean, deviation = M2IB((1,), noise="features")._noise(hidden, own)
    alone = text.trace(text.prepare(["cat"])).cut(1).hidden
    torch.testing.assert_close(mean[0], alone[0].mean(0, keepdim=True), rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(deviation[0], alone[0].std(0, keepdim=True, correction=0), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("variant", ["paper", "iba"])
@pytest.mark.parametrize("kind", few(["clip", "siglip", "bert"], ["clip"]))
def test_m2ib_ignores_the_padding_of_a_caption(kind: str, variant: str) -> None:
    captions = ["two cars", "a small gray bird sleeping on the red mat"]
    together = nibt.explain(tiny.model(kind), tiny.image(), captions, "m2ib", variant=variant, layer=1)
    alone = nibt.explain(tiny.model(kind), tiny.image(), captions[0], "m2ib", variant=variant, layer=1)
    actual, wanted = (torch.tensor([word.score for word in answer.words]) for answer in (together[0], alone))
    torch.testing.assert_close(actual, wanted, rtol=0, atol=1e-4 * float(wanted.max()))
    assert float(together[0].text.special_token_share) == pytest.approx(float(alone.text.special_token_share), abs=1e-4)


def test_m2ib_default_is_the_paper_setting(golden: Golden) -> None:
    model = golden.model
    for variant in ("default", "paper"):
        for tower in (model.image, model.text):
            actual = M2IB.configured(tower, variant, {}, {})
            assert actual == M2IB((10,), beta=0.1, steps=10, samples=10, rate=1.0, seed=0, seeds=1, noise="unit")
    assert M2IB.configured(model.image, "iba", {}, {}).noise == "features"


@pytest.mark.slow
def test_m2ib_varies_less_between_seeds_than_between_images(golden: Golden) -> None:
    """In the setting of the paper, seeds change a map less than images do."""
    model = golden.model
    maps = [
        nibt.explain(model, golden.folder / f"image_{number}.png", "w9 w8 w7", "m2ib", seed=seed).image.scores
        for number in (0, 1)
        for seed in (0, 1)
    ]
    same = float(torch.corrcoef(torch.stack(maps[:2]))[0, 1])
    other = float(torch.corrcoef(torch.stack([maps[0], maps[2]]))[0, 1])
    assert same > max(0.5, other)


def test_m2ib_leaves_global_generators_unchanged() -> None:
    before = torch.get_rng_state(), np.random.get_state()[1].copy()
    nibt.explain(tiny.model("clip"), tiny.image(), "two cars", "m2ib")
    assert torch.equal(before[0], torch.get_rng_state())
    assert np.array_equal(before[1], np.random.get_state()[1])


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_m2ib_learns_in_single_precision_for_half_precision_models(dtype: str) -> None:
    built = tiny.clip()
    half = nibt.load_model(built.module.to(getattr(torch, dtype)), processor=built.processor)
    actual = nibt.explain(half, tiny.image(), "two cars", "m2ib")
    whole = nibt.explain(tiny.model("clip"), tiny.image(), "two cars", "m2ib")
    assert actual.image.scores.isfinite().all()
    assert F.cosine_similarity(actual.image.scores, whole.image.scores, dim=0) > 0.9


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"steps": 0}, r"steps must be between 1 and .* \(got 0\)"),
        ({"samples": 0}, "samples must be between 1 and"),
        ({"seeds": 0}, "seeds must be between 1 and"),
        ({"seed": -1}, "seed must be between 0 and"),
        ({"beta": -0.1}, "beta must be at least 0"),
        ({"beta": math.nan}, "beta must be a finite number at least 0 .got nan"),
        ({"rate": 0}, "rate must be above 0"),
        ({"noise": "pink"}, "noise must be unit or features"),
    ],
)
def test_m2ib_rejects_bad_options(options: dict[str, Any], message: str) -> None:
    with pytest.raises(BadOption, match=message):
        nibt.explain(tiny.model("clip"), tiny.image(), "a cat", "m2ib", **options)


def test_m2ib_feature_noise_of_a_constant_channel_stays_finite() -> None:
    hidden = torch.randn(1, 4, 3, generator=torch.Generator().manual_seed(0))
    hidden[..., 1] = 0.5
    mean, deviation = M2IB((1,), noise="features")._noise(hidden, torch.ones(1, 4, 1, dtype=torch.bool))
    assert mean.shape == deviation.shape == (1, 1, 3)
    assert mean[0, 0, 1] == 0.5
    assert deviation[0, 0, 1] == pytest.approx(1e-6)
    torch.testing.assert_close(deviation[0, 0, 0], hidden[0, :, 0].std(correction=0))


def test_m2ib_unit_noise_is_standard_normal() -> None:
    mean, deviation = M2IB((1,))._noise(torch.randn(1, 4, 3), torch.ones(1, 4, 1, dtype=torch.bool))
    assert (float(mean), float(deviation)) == (0, 1)


@both_sides
def test_m2ib_moves_by_the_rate(modality: str) -> None:
    """The first step of Adam has the size of the rate in every element, here toward less information."""
    of = make_side(tiny.model("clip"), modality)
    cut = of.cut(1)
    own = of.tower.valid_tokens(of.inputs, cut.hidden)[..., None]
    for rate in (0.5, 2.0):
        actual = M2IB((1,), beta=1e6, steps=2, rate=rate)(of)
        wanted = (information(torch.full_like(cut.hidden, 5 - rate), cut.hidden) * own).sum(-1)
        torch.testing.assert_close(actual.scores, actual.units.keep(wanted), rtol=1e-3, atol=1e-3)
