"""Tests of ``nibt.methods.attention``."""

import pytest
import torch

from nibt.methods.attention import LeGrad
from tests.helpers import both_sides
from tests.methods.eager import ByHand, close


@both_sides
@pytest.mark.parametrize("blocks", [None, 1, 2, 7])
def test_legrad_equals_its_formula(modality: str, blocks: int | None) -> None:
    hand = ByHand(modality)
    clip, total = hand.module, torch.zeros_like(hand.own)
    norm, project = (
        (clip.vision_model.post_layernorm, clip.visual_projection)
        if modality == "image"
        else (clip.text_model.final_layer_norm, clip.text_projection)
    )
    for stream, weights in list(zip(hand.seen["stream"], hand.seen["weights"], strict=True))[-(blocks or 3) :]:
        mean = torch.stack([one[own > 0].mean(0) for one, own in zip(stream, hand.own, strict=True)])
        value = hand.of.score(project(norm(mean)))
        (gradient,) = torch.autograd.grad(value.sum(), weights, retain_graph=True)
        for item in range(2):
            queries = gradient[item, :, hand.own[item] > 0].relu() * (weights[item, :, hand.own[item] > 0] > 0)
            total[item] += queries.mean((0, 1))
    close(LeGrad(blocks=blocks)(hand.of).scores, hand.kept(total))
