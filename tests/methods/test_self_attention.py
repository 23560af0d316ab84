"""Tests of attention of vectors with each other."""

import torch

from nibt.methods._attention import self_weights
from nibt.models._attention import AttentionRecord


def test_weights_that_round_to_zero_are_no_mask() -> None:
    """A mask hides a key from all heads; one head alone may give it no weight."""
    vectors = torch.randn(1, 2, 3, 4, generator=torch.Generator().manual_seed(0))
    weights = torch.full((1, 2, 3, 3), 0.5)
    weights[0, 0, 0, 1] = 0  # in one head
    weights[0, :, 1, 2] = 0  # in both
    actual = self_weights(AttentionRecord(weights, vectors, vectors, vectors, vectors), vectors)
    assert (actual == 0).nonzero().tolist() == [[0, 0, 1, 2], [0, 1, 1, 2]]
    torch.testing.assert_close(actual.sum(-1), torch.ones(1, 2, 3))
    torch.testing.assert_close(actual[0, 0, 0], (vectors[0, 0, 0] @ vectors[0, 0].T / 2).softmax(-1))
