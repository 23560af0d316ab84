"""Tests of ``nibt.methods.attention``."""

import pytest
import torch

from nibt.methods._attention import gradients
from nibt.methods.attention import GAE, Chefer
from nibt.models._attention import record_attentions
from tests import tiny
from tests.helpers import assert_close, both_sides, make_side
from tests.methods.eager import ByHand, close
from tests.suites import few


@both_sides
@pytest.mark.parametrize("blocks", few([None, 2, 7], [2]))
@pytest.mark.parametrize("rectified", ["mean", "heads"])
def test_gae_equals_its_recursion(modality: str, rectified: str, blocks: int | None) -> None:
    """The recursion of Chefer et al.: a matrix R that starts at 1, here at the first of the last blocks."""
    hand = ByHand(modality)
    tokens = hand.seen["stream"][0].shape[1]
    relevance = torch.eye(tokens).expand(2, -1, -1)
    read = hand.seen["weights"][-(blocks or 3) :]
    for weights, gradient in zip(read, hand.gradients(read), strict=True):
        product = weights * gradient
        change = product.mean(1).relu() if rectified == "mean" else product.relu().mean(1)
        relevance = relevance + change @ relevance
    close(GAE(rectified, blocks=blocks)(hand.of).scores, hand.kept(hand.read(relevance)))


@both_sides
def test_gae_of_one_block_equals_chefer(modality: str) -> None:
    hand = ByHand(modality, blocks=1)
    torch.testing.assert_close(GAE("heads")(hand.of).scores, Chefer()(hand.of).scores)
    assert Chefer()(hand.of).scores.any()


@both_sides
def test_gae_with_all_blocks_is_the_default(modality: str) -> None:
    hand = ByHand(modality)
    for blocks in (3, 99):
        assert torch.equal(GAE(blocks=blocks)(hand.of).scores, GAE()(hand.of).scores)


@both_sides
@pytest.mark.parametrize("kind", ["clip", "siglip", "own vit average", "coca", "bert"])
def test_gae_of_the_last_block_is_its_map_added_to_one(kind: str, modality: str) -> None:
    """Row r of 1 + relu(mean over heads of dS/dA * A); a pooling attention multiplies this by its own map."""
    of = make_side(tiny.model(kind), modality)
    seen = record_attentions(of.trace, of.tower.depth - 1)
    maps = [
        (record.weights * gradient).mean(1).clamp_min(0)
        for record, gradient in zip(seen.all, gradients(of, seen, [record.weights for record in seen.all]), strict=True)
    ]
    row = seen.rows if seen.pooling is None else seen.read_by_head(maps[-1])
    expected = row + torch.einsum("bq,bqk->bk", row, maps[0])
    assert_close(GAE(blocks=1).scores(of), expected)


@both_sides
@pytest.mark.parametrize("kind", ["clip", "own vit average", "bert"])
def test_gae_of_the_last_block_by_head_is_chefer_with_the_identity(kind: str, modality: str) -> None:
    of = make_side(tiny.model(kind), modality)
    row = record_attentions(of.trace, of.tower.depth - 1).rows
    assert_close(GAE("heads", blocks=1).scores(of) - row, Chefer().scores(of), least=2e-7)  # the rounding of 1
