"""Tests of ``nibt.methods.gae``."""

import pytest
import torch

from nibt.methods.chefer import Chefer
from nibt.methods.gae import GAE
from tests.helpers import both_sides
from tests.methods.eager import ByHand, close


@both_sides
@pytest.mark.parametrize("rectified", ["mean", "heads"])
def test_gae_equals_its_recursion(modality: str, rectified: str) -> None:
    """The recursion of Chefer et al.: a matrix R that starts at 1."""
    hand = ByHand(modality)
    tokens = hand.seen["stream"][0].shape[1]
    relevance = torch.eye(tokens).expand(2, -1, -1)
    actual = hand.gradients(hand.seen["weights"])
    for weights, gradient in zip(hand.seen["weights"], actual, strict=True):
        product = weights * gradient
        change = product.mean(1).relu() if rectified == "mean" else product.relu().mean(1)
        relevance = relevance + change @ relevance
    close(GAE(rectified)(hand.of).scores, hand.kept(hand.read(relevance)))


@both_sides
def test_gae_of_one_block_equals_chefer(modality: str) -> None:
    hand = ByHand(modality, blocks=1)
    torch.testing.assert_close(GAE("heads")(hand.of).scores, Chefer()(hand.of).scores)
    assert Chefer()(hand.of).scores.any()
