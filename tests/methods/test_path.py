"""Tests of ``nibt.methods._path``."""

from dataclasses import dataclass
from typing import Any

import pytest
import torch

import nibt
from nibt.core.quadrature import nodes
from nibt.data.units import Units
from nibt.errors import BadOption, UnknownName
from nibt.methods._path import GradientMethod, along_path, with_path
from nibt.methods.gradient_maps import GradCAM
from nibt.methods.nib import NIB
from nibt.types import Hidden, PerToken
from tests import tiny
from tests.helpers import both_sides, make_side

KINDS = ("clip", "siglip naflex", "own vit", "bert", "convnext")


@dataclass(frozen=True)
class GradientTimesState(GradientMethod):
    """The product that NIB averages, without a rectifier."""

    def scores(self, difference: Hidden, gradient: Hidden, units: Units) -> PerToken:
        return (difference * gradient).sum(-1)


@both_sides
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    ("baseline", "quadrature", "steps"),
    [
        ("blank", "gauss", 4),
        ("zero", "riemann", 10),
        ("zero", "geometric", 5),
        ("blank", "midpoint", 3),
    ],
)
def test_along_path_of_gradient_times_state_equals_nib(
    kind: str, modality: str, baseline: str, quadrature: str, steps: int
) -> None:
    of = make_side(tiny.model(kind), modality)
    layer = 0 if modality == "text" else 1
    actual = with_path(GradientTimesState)((layer,), baseline, quadrature, steps)(of)
    wanted = NIB((layer,), baseline, quadrature, steps)(of)
    scale = float(wanted.scores.abs().max())
    assert scale > 1e-6
    torch.testing.assert_close(actual.scores, wanted.scores, rtol=0, atol=max(2e-6 * scale, 1e-7))
    torch.testing.assert_close(actual.special_token_share, wanted.special_token_share, rtol=0, atol=1e-4)
    assert actual.units == wanted.units or modality == "text"
    settings, expected = actual.path, wanted.path
    assert (settings.baseline, settings.quadrature, settings.layers, settings.tolerance) == (
        baseline,
        quadrature,
        (layer,),
        None,
    )
    assert torch.equal(settings.steps, expected.steps)
    assert torch.equal(settings.at_input, expected.at_input)
    for name in ("at_baseline", "sum", "gap"):
        torch.testing.assert_close(getattr(settings, name), getattr(expected, name), rtol=1e-4, atol=5e-6)


@both_sides
@pytest.mark.parametrize("kind", KINDS)
def test_along_path_rectifies_at_each_node(kind: str, modality: str) -> None:
    """The expected scores are the mean of the rectified products, not the rectified mean."""
    of = make_side(tiny.model(kind), modality)
    layer = 1
    cut, path = of.cut(layer), nodes("gauss", 5)
    baseline = of.baseline("blank", layer, cut.hidden)
    total, plain = torch.zeros(cut.hidden.shape[:2]), torch.zeros(cut.hidden.shape[:2])
    for position, weight in zip(path.positions, path.weights, strict=True):
        state = (baseline + position * (cut.hidden - baseline))[None].requires_grad_()
        (gradient,) = torch.autograd.grad(of.score(cut.rest(state)).sum(), state)
        product = ((cut.hidden - baseline) * gradient[0]).sum(-1)
        total, plain = total + weight * product.relu(), plain + weight * product
    actual = with_path(GradCAM)((layer,), baseline="blank", quadrature="gauss", steps=5)(of).scores
    torch.testing.assert_close(actual, cut.units.keep(total), rtol=1e-4, atol=2e-6)
    assert (actual >= 0).all()
    assert not torch.allclose(actual, cut.units.keep(plain.relu()), rtol=1e-3, atol=1e-6)


@both_sides
@pytest.mark.parametrize("weights", ["token", "pooled"])
@pytest.mark.parametrize("kind", ["clip", "bert", "convnext"])
def test_along_path_with_one_node_at_the_state_equals_the_method(kind: str, weights: str, modality: str) -> None:
    of = make_side(tiny.model(kind), modality)
    wanted = GradCAM((1,), weights=weights)(of)
    actual = with_path(GradCAM)(layer=(1,), weights=weights, baseline="zero", quadrature="riemann", steps=1)(of)
    torch.testing.assert_close(actual.scores, wanted.scores, rtol=1e-5, atol=1e-7)
    assert wanted.scores.any()


def test_along_path_has_the_path_of_nib_by_default() -> None:
    options = {name: getattr(NIB((1,)), name) for name in ("baseline", "quadrature", "steps", "floor")}
    assert with_path(GradCAM)((1,)) == with_path(GradCAM)((1,), **options)


def test_along_path_averages_layers() -> None:
    of, kind = make_side(tiny.model("clip"), "image"), with_path(GradCAM)
    both, single = kind((0, 2))(of), [kind((layer,))(of) for layer in (0, 2)]
    torch.testing.assert_close(both.scores, torch.stack([one.scores for one in single]).mean(0))
    assert both.path.layers == (0, 2)
    torch.testing.assert_close(both.path.gap, torch.stack([one.path.gap for one in single]).mean(0))
    with pytest.raises(nibt.NibtError, match="different grids"):
        kind((0, 3))(make_side(tiny.model("convnext"), "image"))


def test_explain_takes_along_path() -> None:
    model, image = tiny.model("clip"), tiny.image()
    answer = nibt.explain(model, image, "a cat", "grad_cam", along_path=True, layer=1, text_steps=3)
    assert answer.method["name"] == "grad_cam"
    assert answer.method["along_path"] is True
    path = {
        "layer": [1],
        "baseline": "blank",
        "quadrature": "gauss",
        "floor": 0.1,
        "weights": "token",
        "views": 1,
        "amounts": "method",
    }
    assert answer.method["image"] == {**path, "steps": 4}
    assert answer.method["text"] == {**path, "steps": 3}
    assert answer.image.path is not None
    plain = nibt.explain(model, image, "a cat", "grad_cam", along_path=False, layer=1)
    assert "along_path" not in plain.method
    assert plain.image.path is None
    assert not torch.allclose(plain.image.scores, answer.image.scores)


@pytest.mark.parametrize(
    ("variant", "settings"),
    [
        ("default", {"baseline": "blank", "quadrature": "gauss", "steps": 8, "weights": "token"}),
        ("textbook", {"baseline": "blank", "quadrature": "gauss", "steps": 8, "weights": "pooled"}),
        ("paper", {"baseline": "zero", "quadrature": "riemann", "steps": 10, "weights": "token"}),
    ],
)
def test_along_path_has_the_variants_of_the_method(variant: str, settings: dict[str, Any]) -> None:
    answer = nibt.explain(tiny.model("clip"), tiny.image(), "a cat", "grad_cam", variant=variant, along_path=True)
    assert settings.items() <= answer.method["text"].items()
    kind, tower = along_path("grad_cam"), tiny.model("clip").text
    assert kind.configured(tower, variant, {}, {}).layer == GradCAM.configured(tower, variant, {}, {}).layer


def test_along_path_caches_the_class() -> None:
    kind = along_path("grad_cam")
    assert kind is along_path("grad_cam")
    assert issubclass(kind, GradCAM)
    assert kind((1,)) == kind((1,)) != kind((1,), steps=5)
    assert "steps" in kind.cost


@pytest.mark.parametrize(
    ("method", "options", "error", "settings"),
    [
        ("occlusion", {"along_path": True}, BadOption, r"occlusion cannot go along a path.*use one of: grad_cam"),
        ("nib", {"along_path": True}, BadOption, "nib cannot go along a path"),
        ("grad_cam", {"along_path": "perhaps"}, BadOption, r"along_path must be true or false \(got 'perhaps'\)"),
        ("grad_cam", {"baseline": "zero"}, UnknownName, "unknown option 'baseline'"),
        ("grad_cam", {"along_path": True, "beta": 1}, UnknownName, "unknown option 'beta'"),
        ("grad_cam", {"along_path": True, "steps": 0}, BadOption, "steps must be between 1 and"),
        ("grad_cam", {"along_path": True, "weights": "none"}, BadOption, "weights must be token or pooled"),
        ("grad_cam", {"along_path": True, "baseline": "black"}, BadOption, "baseline must be zero"),
    ],
)
def test_along_path_rejects_bad_options(method: str, options: dict[str, Any], error: type, settings: str) -> None:
    with pytest.raises(error, match=settings):
        nibt.explain(tiny.model("clip"), tiny.image(), "a cat", method, **options)
