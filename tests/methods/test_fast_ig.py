"""Tests of ``nibt.methods.attention``."""

import pytest
import torch
from torch import Tensor

from nibt.methods._attention import gradients
from nibt.methods.attention import FastIG, SaliencyMap
from nibt.models._attention import record_attentions
from tests import tiny
from tests.helpers import both_sides, captum, make_side
from tests.suites import few


@both_sides
@pytest.mark.parametrize("kind", ["clip", "siglip", "own vit average", "coca", "mt5"])
def test_fast_ig_sums_to_the_output_times_its_gradient(kind: str, modality: str) -> None:
    """The sum over keys of dS/dA A is (dS/do) . o, for each head and query."""
    of = make_side(tiny.model(kind), modality)
    seen = record_attentions(of.trace, of.tower.depth - 1)
    (gradient,) = gradients(of, seen, [seen.last.output])
    wanted = ((gradient * seen.last.output).sum(-1).mean(1) * seen.rows).sum(-1)
    torch.testing.assert_close(FastIG().scores(of).sum(-1), wanted, atol=1e-6, rtol=1e-3)


@both_sides
@pytest.mark.parametrize("kind", few(["clip", "siglip", "own vit", "mt5", "convnext"], ["clip", "convnext"]))
def test_textbook_variants_equal_the_input_gradients_of_captum(kind: str, modality: str) -> None:
    of = make_side(tiny.model(kind), modality)
    stem = of.stem()

    def tail(states: Tensor) -> Tensor:
        return of.score(stem.rest(states[None]))[0]

    for method, oracle in (
        (SaliencyMap("input"), captum("attr.Saliency")(tail)),
        (FastIG("input"), captum("attr.InputXGradient")(tail)),
    ):
        product = oracle.attribute(stem.hidden.requires_grad_()).detach()
        rows = product.amax(-1) if isinstance(method, SaliencyMap) else product.sum(-1)
        answer = method(of)
        torch.testing.assert_close(answer.scores, stem.units.keep(rows), atol=3e-6, rtol=1e-4)
        configured = type(method).configured(of.tower, "textbook", {}, {})
        assert torch.equal(configured(of).scores, answer.scores)
