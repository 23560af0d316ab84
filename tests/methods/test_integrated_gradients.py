"""Tests of ``nibt.methods.input_paths``."""

from typing import Any

import pytest
import torch

import nibt
from nibt.core.side import Side
from nibt.errors import BadOption
from nibt.methods.input_paths import MFABA, IntegratedGradients
from nibt.methods.nib import NIB
from tests import linear, tiny
from tests.helpers import all_tokens, both_sides, captum, make_side
from tests.suites import few

ORACLE = ("clip", "siglip", "own vit", "own vit attention", "own resnet", "bert", "coca", "timm eva", "convnext")


def oracle(of: Side, baseline: torch.Tensor, steps: int) -> torch.Tensor:
    stem = of.stem()

    def tail(states: torch.Tensor) -> torch.Tensor:  # captum repeats the batch, step after step
        return of.score(stem.rest(states.unflatten(0, (-1, len(stem.hidden))))).flatten()

    return (
        captum("attr.IntegratedGradients")(tail)
        .attribute(stem.hidden, baseline, n_steps=steps, method="riemann_middle")
        .sum(-1)
        .float()
    )


@both_sides
@pytest.mark.parametrize("baseline", ["blank", "zero"])
@pytest.mark.parametrize("kind", few(ORACLE, ["clip", "own resnet", "bert", "coca"]))
def test_integrated_gradients_equal_captum(kind: str, baseline: str, modality: str) -> None:
    of = make_side(tiny.model(kind), modality)
    answer = IntegratedGradients(baseline=baseline, steps=12)(of)
    expected = oracle(of, of.baseline(baseline, None, of.stem().hidden), 12)
    torch.testing.assert_close(answer.scores, answer.units.keep(expected), atol=1e-6, rtol=1e-5)
    torch.testing.assert_close(all_tokens(answer.path), expected.sum(-1), atol=2e-6, rtol=1e-5)


@both_sides
@pytest.mark.parametrize("kind", few(["clip", "siglip", "own vit", "convnext", "bert"], ["clip", "convnext"]))
def test_integrated_gradients_are_complete(kind: str, modality: str) -> None:
    of = make_side(tiny.model(kind), modality)
    few, many = (IntegratedGradients(steps=steps)(of).path for steps in (4, 128))
    change = many.at_input - many.at_baseline
    assert torch.equal(many.at_input, of.value())
    torch.testing.assert_close(many.sum, change, atol=1e-4, rtol=1e-3)
    assert (few.gap.abs() > many.gap.abs()).all()
    torch.testing.assert_close(many.gap, change - many.sum)


@linear.both_sides
@pytest.mark.parametrize(
    "method",
    [
        IntegratedGradients(steps=1),
        IntegratedGradients(steps=3, baseline="zero"),
        NIB((0,), "zero", "riemann", 1),
        NIB((1,), "blank", "gauss", 2),
        NIB((2,), "blank", "midpoint", 3),
    ],
)
def test_complete_methods_agree_on_a_linear_tower(method: Any, of: Side) -> None:
    torch.testing.assert_close(method(of).scores, linear.parts(of), atol=1e-5, rtol=1e-5)


def test_gradient_methods_give_zero_for_a_constant_score() -> None:
    of = linear.text_side([(3, 1, 4)])
    blind = Side(of.model, of.trace, lambda embedding: 0 * embedding[..., 0])
    assert not IntegratedGradients()(blind).scores.any()
    assert not MFABA()(blind).scores.any()


def test_gradient_methods_have_documented_defaults() -> None:
    answer = nibt.explain(tiny.model("clip"), tiny.image(), "a cat", "integrated_gradients")
    assert answer.method["text"] == {
        "baseline": "blank",
        "quadrature": "midpoint",
        "steps": 50,
        "floor": 0.1,
        "views": 1,
        "amounts": "method",
    }
    assert answer.to_json()["sides"]["image"]["path"]["layers"] == []
    paper = nibt.explain(tiny.model("clip"), tiny.image(), "a cat", "integrated_gradients", variant="paper")
    assert paper.method["image"]["baseline"] == "zero"
    mfaba = [
        nibt.explain(tiny.model("clip"), tiny.image(), "a cat", "mfaba", variant=variant).image.scores
        for variant in ("default", "paper")
    ]
    assert torch.equal(*mfaba)


@pytest.mark.parametrize(
    ("method", "options", "message"),
    [
        ("mfaba", {"steps": 0}, r"steps must be between 1 and .* \(got 0\)"),
        ("mfaba", {"stride": -1}, r"stride must be above 0 \(got -1.0\)"),
        ("integrated_gradients", {"steps": 0}, "steps must be between 1 and"),
        ("integrated_gradients", {"quadrature": "simpson"}, "quadrature must be one of"),
        ("integrated_gradients", {"baseline": "black"}, "baseline must be zero, blank"),
        ("integrated_gradients", {"baseline": "mean:x"}, "baseline must be zero or blank at the first tokens"),
        ("integrated_gradients", {"quadrature": "geometric"}, "needs the baseline zero"),
    ],
)
def test_gradient_methods_reject_bad_options(method: str, options: dict[str, Any], message: str) -> None:
    with pytest.raises(BadOption, match=message):
        nibt.explain(tiny.model("clip"), tiny.image(), "a cat", method, **options)
