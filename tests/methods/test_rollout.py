"""Tests of ``nibt.methods.attention``."""

import pytest
import torch

from nibt.core.side import Side
from nibt.methods.attention import FastIG, Rollout
from tests import tiny
from tests.helpers import both_sides, cosine, make_side
from tests.methods.eager import ByHand, close


@both_sides
def test_rollout_equals_its_product(modality: str) -> None:
    hand = ByHand(modality)
    rolled = torch.eye(hand.seen["stream"][0].shape[1]).expand(2, -1, -1)
    for weights in hand.seen["weights"]:
        rolled = (weights.mean(1) + torch.eye(weights.shape[-1])) / 2 @ rolled
    close(Rollout()(hand.of).scores, hand.kept(hand.read(rolled)))
    torch.testing.assert_close(Rollout().scores(hand.of).sum(-1), torch.ones(2))


@both_sides
@pytest.mark.parametrize("kind", ["clip", "siglip", "own vit attention", "bert"])
def test_rollout_ignores_the_other_side(kind: str, modality: str) -> None:
    model, other = (
        tiny.model(kind),
        torch.linspace(-1, 1, tiny.model(kind).image.encode(tiny.model(kind).image.prepare([tiny.image()])).shape[-1]),
    )
    of = make_side(model, modality)
    elsewhere = Side(model, of.trace, lambda embedding: cosine(embedding, other))
    assert torch.equal(Rollout()(of).scores, Rollout()(elsewhere).scores)
    assert not torch.allclose(FastIG()(of).scores, FastIG()(elsewhere).scores)
