"""Tests of ``nibt.engine.narrowing``: narrowing curves."""

from typing import Any

import numpy as np
import pytest
import torch

import nibt
from nibt.core.side import Side
from nibt.data.units import Grid
from nibt.engine.narrowing import side_curve
from nibt.errors import BadInput, BadOption, UnknownName
from nibt.methods._checks import generator
from nibt.methods.nib import NIB
from tests import tiny
from tests.helpers import assert_close, both_sides, make_side

POSITIONS = (0.0, 0.25, 0.5, 0.9, 1.0)
kinds = pytest.mark.parametrize("kind", ["clip", "siglip", "bert", "convnext"])


def nats_by_hand(of: Side, method: NIB) -> torch.Tensor:
    """Return the divergence of torch for each element, summed over channels and averaged over units, item by item."""
    (layer,) = method.layer
    cut = of.cut(layer)
    hidden, baseline = cut.hidden.double(), of.baseline(method.baseline, layer, cut.hidden).double()
    own = of.tower.valid_tokens(of.inputs, cut.hidden)
    rows = []
    for item in range(2):
        h, r = hidden[item], baseline[item]
        s = h[own[item]].std(0, correction=0) if method.noise == "features" else torch.ones(h.shape[1]).double()
        noise = torch.distributions.Normal(r, method.deviation * s.expand_as(h))
        if isinstance(cut.units, Grid):
            units = list(cut.units.tokens)
        else:
            units = [token for word in cut.units.words[item] for token in word.tokens]
        row = []
        for lam in POSITIONS[:-1]:
            passed = torch.distributions.Normal(lam * h + (1 - lam) * r, (1 - lam) * method.deviation * s.expand_as(h))
            row.append(torch.distributions.kl_divergence(passed, noise)[units].sum(-1).mean())
        rows.append(torch.stack(row))
    return torch.stack(rows)


@both_sides
@kinds
@pytest.mark.parametrize("noise", ["unit", "features"])
def test_information_is_that_of_the_channel(noise: str, kind: str, modality: str) -> None:
    of = make_side(tiny.model(kind), modality)
    method = NIB((1,), noise=noise, deviation=0.7, samples=2)
    _, nats = side_curve(of, method, POSITIONS)
    assert_close(nats[:, :-1], nats_by_hand(of, method), share=1e-6)
    assert not nats[:, 0].any()
    assert (nats[:, :-1].diff(dim=1) > 0).all()
    assert (nats[:, -1] == torch.inf).all()


@both_sides
@kinds
def test_curve_without_noise_is_the_score_on_the_path(kind: str, modality: str) -> None:
    of = make_side(tiny.model(kind), modality)
    cut, baseline = of.cut(1), of.baseline("blank", 1, of.cut(1).hidden)
    scores, nats = side_curve(of, NIB((1,)), POSITIONS)
    for place, lam in enumerate(POSITIONS):
        state = lam * cut.hidden + (1 - lam) * baseline
        torch.testing.assert_close(scores[:, place], of.score(cut.rest(state[None]))[0].detach())
    assert nats.tolist() == [[0.0, *[float("inf")] * 4]] * 2
    torch.testing.assert_close(scores[:, -1], of.value())
    path = NIB((1,), "blank", "gauss", 32)(of).path
    assert path is not None
    torch.testing.assert_close(scores[:, -1] - scores[:, 0], path.sum, atol=1e-4, rtol=0)


@both_sides
def test_curve_with_noise_is_a_mean_over_samples(modality: str) -> None:
    of = make_side(tiny.model("clip"), modality)
    cut, baseline = of.cut(1), of.baseline("blank", 1, of.cut(1).hidden)
    draws = [generator(3, row) for row in range(cut.hidden.shape[1])]
    drawn = [row.standard_normal((4, cut.hidden.shape[2]), dtype=np.float32) for row in draws]
    scores, _ = side_curve(of, NIB((1,), "blank", noise="unit", deviation=0.5, samples=4, seed=3), POSITIONS)
    for place, lam in enumerate(POSITIONS):
        states = torch.stack(
            [lam * cut.hidden + (1 - lam) * (baseline + 0.5 * n) for n in torch.tensor(np.stack(drawn, 1))]
        )
        torch.testing.assert_close(scores[:, place], of.score(cut.rest(states)).mean(0).detach())
    noisy = NIB((1,), "blank", "gauss", 32, noise="unit", deviation=0.5, samples=4, seed=3)(of).path
    assert noisy is not None
    torch.testing.assert_close(scores[:, -1] - scores[:, 0], noisy.sum, atol=2e-4, rtol=0)


def test_curve_averages_layers() -> None:
    of = make_side(tiny.model("clip"), "image")
    both = side_curve(of, NIB((0, 2), noise="unit", samples=2), POSITIONS[:-1])
    parts = [side_curve(of, NIB((layer,), noise="unit", samples=2), POSITIONS[:-1]) for layer in (0, 2)]
    for place in (0, 1):
        torch.testing.assert_close(both[place], (parts[0][place] + parts[1][place]) / 2)


@kinds
def test_curve_of_several_pairs_has_those_of_each(kind: str) -> None:
    """A curve does not depend on the other pairs, whose captions are longer, and is repeatable."""
    model, images, captions = (
        tiny.model(kind),
        [tiny.image(seed=seed) for seed in (1, 2)],
        ["cat", "two red cars on a mat"],
    )
    options: dict[str, Any] = {"points": 5, "samples": 3, "seed": 2}
    together = nibt.narrowing_curve(model, images, captions, **options)
    assert together == nibt.narrowing_curve(model, images, captions, **options)
    assert len(together) == 2
    for index, (image, caption) in enumerate(zip(images, captions, strict=True)):
        alone = nibt.narrowing_curve(model, image, caption, **options)
        assert together[index].pairs == alone.pairs == (together.pairs[index],)
        for side in ("image", "text"):
            for name in ("scores", "information"):
                actual, expected = getattr(together[index].sides[side], name), getattr(alone.sides[side], name)
                assert np.allclose(
                    np.array(actual, float), np.array(expected, float), atol=1e-5, rtol=1e-5, equal_nan=True
                )
    both = together.sides["image"]
    np.testing.assert_allclose(both.mean_scores, np.mean(both.scores, 0))
    np.testing.assert_allclose(both.mean_information[:-1], np.mean([row[:-1] for row in both.information], 0))
    assert both.mean_information[-1] is None


def test_curve_has_one_side_or_both() -> None:
    model, image = tiny.model("clip"), tiny.image()
    assert list(nibt.narrowing_curve(model, image, "a cat", points=2).sides) == ["image", "text"]
    for side in ("image", "text"):
        assert list(nibt.narrowing_curve(model, image, "a cat", points=2, side=side).sides) == [side]


def test_curve_takes_the_options_of_nib() -> None:
    model, image = tiny.model("clip"), tiny.image()
    curve = nibt.narrowing_curve(
        model, image, "a cat", target="logit", variant="paper", points=3, image_layer=0, samples=2, noise="unit"
    )
    assert curve.positions == (0.0, 0.5, 1.0)
    own = {"layer": [0], "baseline": "zero", "noise": "unit", "samples": 2, "views": 1}
    assert own.items() <= curve.method["image"].items()
    explained = nibt.explain(model, image, "a cat", target="logit")
    assert curve.sides["image"].scores[0][-1] == pytest.approx(explained.target["value"], rel=1e-5)


def test_curve_reports_its_progress() -> None:
    done = []
    images = [tiny.image(seed=seed) for seed in range(9)]
    nibt.narrowing_curve(
        tiny.model("clip"),
        images,
        "a cat",
        points=2,
        samples=1,
        on_progress=lambda one: done.append((one.done, one.total)),
    )
    assert done[-1] == (9, 9)
    assert len(done) == 2


@pytest.mark.parametrize(
    ("options", "kind", "message"),
    [
        ({"side": "both"}, BadOption, r"side must be image or text \(got 'both'\): leave it out for both"),
        ({"points": 1}, BadOption, r"points must be between 2 and .* \(got 1\)"),
        ({"views": 3}, BadOption, r"views must be 1 for a narrowing curve \(got 3\): leave views out"),
        ({"image_views": 2}, BadOption, r"views must be 1 for a narrowing curve \(got 2\)"),
        ({"samples": 0}, BadOption, "samples must be between 1 and"),
        ({"target": "softmax"}, BadOption, "the target softmax needs something to compare with"),
        ({"targets": "softmax"}, UnknownName, "unknown option 'targets'"),
        ({"variant": "papers"}, UnknownName, "Did you mean 'paper'"),
    ],
)
def test_curve_rejects_bad_options(options: dict[str, Any], kind: type[Exception], message: str) -> None:
    with pytest.raises(kind, match=message):
        nibt.narrowing_curve(tiny.model("clip"), tiny.image(), "a cat", **options)


def test_curve_rejects_lists_of_different_lengths() -> None:
    with pytest.raises(BadInput, match="2"):
        nibt.narrowing_curve(tiny.model("clip"), [tiny.image(), tiny.image(seed=1)], ["a cat", "a dog", "a car"])
