"""Tests of ``nibt.methods.m2ib``, and of the variant ``adaib`` of ``m2ib``."""

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import nibt
from nibt.core.perturbation import generator
from nibt.core.side import Side
from nibt.errors import BadOption, Unsupported
from nibt.methods.m2ib import M2IB, clipped, pair_weight
from tests import tiny, tiny_vision_language
from tests.helpers import both_sides, make_side
from tests.methods.test_m2ib import information
from tests.suites import few


def embeddings(of: Side, modality: str) -> tuple[Tensor, Tensor]:
    """Return the unit embeddings of both sides of ``make_side``."""
    other = make_side(of.model, "text" if modality == "image" else "image").trace.embedding
    return F.normalize(of.trace.embedding, dim=-1), F.normalize(other, dim=-1)


@both_sides
@pytest.mark.parametrize("kind", ["clip", "siglip", "own vit", "convnext"])
def test_pair_weights_are_those_of_the_embeddings(kind: str, modality: str) -> None:
    of = make_side(tiny.model(kind), modality)
    own, other = embeddings(of, modality)
    cosine = (own * other).sum(-1)
    expected = {
        "euclidean": 1 / (torch.linalg.vector_norm(own - other, dim=-1) + 1e-6),
        "manhattan": 1 / (torch.linalg.vector_norm(own - other, ord=1, dim=-1) + 1e-6),
        "softplus": (1 + (3 * (1 + cosine) / 2).exp()).log() + 1e-6,
    }
    for name, weight in expected.items():
        torch.testing.assert_close(pair_weight(of, name, 3.0), weight, rtol=1e-5, atol=0)


def scored(score: Callable[[torch.Tensor], torch.Tensor], similarities: Callable[[torch.Tensor], torch.Tensor]) -> Any:
    """Return a score that has other similarities than its own."""

    def compute(embedding: torch.Tensor) -> torch.Tensor:
        return score(embedding)

    compute.similarities = similarities  # pyright: ignore
    return compute


def test_pair_weights_do_not_depend_on_the_target() -> None:
    """They are those of the pair, also if the score is another target."""
    of = make_side(tiny.model("clip"), "image")
    seven_times = scored(lambda embedding: 7 * of.score(embedding), lambda embedding: of.score(embedding)[..., None])
    changed = replace(of, score=seven_times)
    for name in ("euclidean", "manhattan", "softplus"):
        torch.testing.assert_close(pair_weight(changed, name, 1.0), pair_weight(of, name, 1.0))


def test_pair_weights_of_equal_embeddings_are_finite() -> None:
    of = make_side(tiny.model("clip"), "image")
    same = replace(of, score=scored(of.score, lambda embedding: torch.ones(*embedding.shape[:-1], 1)))
    torch.testing.assert_close(pair_weight(same, "euclidean", 1.0), torch.full((2,), 1e6))


def test_pair_weights_reject_sets_of_vectors() -> None:
    with pytest.raises(Unsupported, match="weights of pairs need one embedding per item"):
        nibt.explain(tiny_vision_language.model("colpali"), tiny.image(), "two cats", "m2ib", variant="adaib", layer=1)


@both_sides
@pytest.mark.parametrize("distance", [1.0, 0.5, 1.4])
def test_adaib_with_constant_weights_is_m2ib(modality: str, distance: float) -> None:
    """All pairs at the same distance: then beta = g / f, since Adam ignores the size of a gradient."""
    of = make_side(tiny.model("clip"), modality)
    cosine = 1 - distance**2 / 2
    constant = scored(of.score, lambda embedding: torch.full((*embedding.shape[:-1], 1), cosine))
    alike = replace(of, score=constant)
    fit = 1 / (distance + 1e-6)
    actual = M2IB((1,), steps=4, samples=3, pair_weight="euclidean")(alike).scores
    expected = M2IB((1,), beta=1 / (fit + 1e-6) / fit, steps=4, samples=3)(of).scores
    torch.testing.assert_close(actual, expected, rtol=1e-3, atol=1e-3 * float(expected.max()))
    assert not torch.allclose(actual, M2IB((1,), steps=4, samples=3)(of).scores, rtol=1e-2)


def item_by_item(
    of: Side, kind: str, samples: int, seed: int, price: Callable[[Tensor], tuple[list[Tensor], Callable[[], Tensor]]]
) -> Tensor:
    """Return the map of the loss g mean(KL) - f mean S(z), with one item and one noisy state at a time.

    The optimizer and the clipping are those of torch. ``price`` returns, for f, the parameters of g and g itself.
    """
    cut = of.cut(1)
    valid = of.tower.valid_tokens(of.inputs, cut.hidden)[..., None].float()
    expected = []
    for item, fit in enumerate(pair_weight(of, kind, 1.0)):
        learned, weight = price(fit)
        noise = [generator(seed, row) for row in range(cut.hidden.shape[1])]
        hidden, mask = cut.hidden[item], valid[item]
        a = torch.full_like(hidden, 5.0).requires_grad_()
        parameters = [a, *learned]
        adam = torch.optim.Adam(parameters, lr=1.0)
        for _ in range(3):
            adam.zero_grad()
            bits = information(a, hidden)
            drawn = [row.standard_normal((samples, hidden.shape[1]), dtype=np.float32) for row in noise]
            fits = []
            for e in torch.tensor(np.stack(drawn, 1)):
                states = cut.hidden.clone()
                states[item] = a.sigmoid() * hidden + (1 - a.sigmoid()) * e
                fits.append(of.score(cut.rest(states[None]))[0, item])
            kept = (bits * mask).sum() / (mask.sum() * hidden.shape[1])
            (weight() * kept - fit * torch.stack(fits).mean()).backward(inputs=parameters)
            nn.utils.clip_grad_norm_(parameters, 1.0)
            adam.step()
        expected.append((bits * mask).sum(-1).detach())
    return cut.units.keep(torch.stack(expected))


@both_sides
@pytest.mark.parametrize("kind", ["euclidean", "softplus"])
def test_adaib_equals_its_loss_item_by_item(kind: str, modality: str) -> None:
    of, samples, seed = make_side(tiny.model("clip"), modality), 3, 3
    expected = item_by_item(of, kind, samples, seed, lambda fit: ([], lambda: 1 / (fit + 1e-6)))
    actual = M2IB((1,), steps=3, samples=samples, seed=seed, pair_weight=kind, clip=1.0)(of).scores
    torch.testing.assert_close(actual, expected, rtol=5e-3, atol=1e-3 * float(actual.max()))


@pytest.mark.parametrize("factor", [0.1, 1.0, 30.0])
def test_clipped_gradients_have_at_most_the_norm(factor: float) -> None:
    """As torch clips the parameters of each item alone."""
    draws = torch.Generator().manual_seed(0)
    gradient = factor * torch.randn(3, 4, 5, generator=draws)
    actual = clipped(gradient, 2.0)
    for item in range(3):
        parameter = nn.Parameter(gradient[item])
        parameter.grad = gradient[item].clone()
        nn.utils.clip_grad_norm_([parameter], 2.0)
        torch.testing.assert_close(actual[item], parameter.grad)
    assert clipped(gradient, None) is gradient


def test_adaib_clips_the_gradient() -> None:
    of = make_side(tiny.model("clip"), "image")
    loose, tight = (M2IB((1,), steps=3, pair_weight="euclidean", clip=clip)(of).scores for clip in (None, 1e-9))
    assert not torch.allclose(loose, tight, rtol=1e-3), "the epsilon of Adam must count with so small a gradient"
    torch.testing.assert_close(M2IB((1,), steps=3, pair_weight="euclidean", clip=1e9)(of).scores, loose)


OPTIONS: list[dict[str, Any]] = [{}, {"pair_weight": "manhattan"}, {"pair_weight": "softplus"}]


@pytest.mark.parametrize("options", OPTIONS, ids=str)
@pytest.mark.parametrize("kind", few(["clip", "siglip", "bert", "convnext"], ["clip"]))
def test_adaib_is_repeatable_and_independent_of_the_batch(kind: str, options: dict[str, Any]) -> None:
    model, images, captions = (
        tiny.model(kind),
        [tiny.image(seed=1), tiny.image(seed=2)],
        ["cat", "two red cars on a mat"],
    )
    explain: Callable[..., Any] = partial(nibt.explain, method="m2ib", variant="adaib", layer=1, steps=4, **options)
    together, again = (explain(model, images, captions) for _ in range(2))
    for index, (image, caption) in enumerate(zip(images, captions, strict=True)):
        alone = explain(model, image, caption)
        for side in ("image", "text"):
            actual, expected = getattr(together[index], side).scores, getattr(alone, side).scores
            assert torch.equal(actual, getattr(again[index], side).scores)
            length = min(len(actual), len(expected))
            largest = float(expected.max())
            torch.testing.assert_close(actual[:length], expected[:length], rtol=0, atol=1e-5 * largest)


def test_adaib_has_the_published_setting() -> None:
    tower = tiny.model("clip").image
    assert M2IB.configured(tower, "adaib", {}, {}) == replace(
        M2IB.configured(tower, "default", {}, {}), pair_weight="euclidean", clip=1.0
    )
    defaults = M2IB.configured(tower, "adaib", {}, {}).options()
    assert {"steps": 10, "samples": 10, "rate": 1.0, "sharpness": 1.0}.items() <= defaults.items()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"pair_weight": "cosine"}, r"pair_weight must be none, euclidean, manhattan or softplus \(got 'cosine'\)"),
        ({"clip": 0}, r"clip must be above 0 \(got 0.0\)"),
        ({"sharpness": 0}, r"sharpness must be above 0 \(got 0.0\)"),
    ],
)
def test_adaib_rejects_bad_options(options: dict[str, Any], message: str) -> None:
    with pytest.raises(BadOption, match=message):
        nibt.explain(tiny.model("clip"), tiny.image(), "a cat", "m2ib", **options)
