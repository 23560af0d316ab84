"""Tests of ``nibt.methods.grad_eclip``."""

import pytest
import torch
import torch.nn.functional as F

from nibt.methods._attention import gradients
from nibt.methods.grad_eclip import GradECLIP
from tests import tiny
from tests.helpers import both_sides, make_side
from tests.methods.eager import ByHand, close


@both_sides
def test_grad_eclip_equals_its_formula(modality: str) -> None:
    """Token by token, with heads side by side as in the projections."""
    hand = ByHand(modality)
    output, query, key, value = (hand.seen[name][-1] for name in ("o", "query", "key", "value"))
    (gradient,) = hand.gradients([output])
    scores = torch.zeros_like(hand.own)
    for item, row in enumerate(hand.row.tolist()):
        visible = [t for t in range(scores.shape[1]) if modality == "image" or t <= row]
        near = torch.stack([F.cosine_similarity(query[item, row], key[item, t], dim=0) for t in visible])
        loose = (near - near.min()) / (near.max() - near.min())
        for t, weight in zip(visible, loose, strict=True):
            scores[item, t] = (gradient[item, row] * weight * value[item, t]).sum().relu()
    close(GradECLIP()(hand.of).scores, hand.kept(scores))


@both_sides
@pytest.mark.parametrize("kind", ["clip", "siglip", "own vit average", "coca", "mt5"])
def test_grad_eclip_without_loosening_equals_the_gradient_of_the_attention(kind: str, modality: str) -> None:
    """Summed over the heads, (dS/do) v is dS/dA: without loosening the two are equal (Cui and Fan, 2026)."""
    of = make_side(tiny.model(kind), modality)
    seen = of.attentions(of.tower.depth - 1)
    on_output, on_weights = gradients(of, seen, [seen.last.output, seen.last.weights])
    joined = [part.transpose(1, 2).flatten(2) for part in (on_output, seen.last.value)]
    torch.testing.assert_close(joined[0] @ joined[1].mT, on_weights.sum(1), atol=1e-6, rtol=1e-4)
