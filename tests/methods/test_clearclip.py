"""Tests of ``nibt.methods.replaced_attention``."""

import pytest
from torch import Tensor

from nibt.methods._attention import score_rows
from nibt.methods.replaced_attention import ClearCLIP
from tests import tiny
from tests.helpers import assert_close, both_sides, make_side
from tests.methods.last_block import KINDS, queries_as_keys, scores_by_hand, sides, softmax


def among_queries(query: Tensor, _: Tensor, hidden: Tensor) -> Tensor:
    return softmax(query, query, hidden)


@both_sides
@KINDS
def test_clearclip_equals_a_model_with_another_last_block(kind: str, modality: str) -> None:
    of = make_side(tiny.model(kind), modality)
    assert_close(ClearCLIP()(of).scores, scores_by_hand(of, kind, modality, among_queries, alone=True))


@pytest.mark.parametrize("kind", ["clip", "siglip"])
def test_clearclip_scores_what_the_block_adds_if_queries_are_keys(kind: str) -> None:
    for of in sides(queries_as_keys(kind)):
        states, layer = of.cut(of.tower.depth - 1).hidden, of.tower.blocks[-1]
        added = layer.self_attn(layer.layer_norm1(states), **of.trace.calls[-1][1])[0].detach()
        actual = ClearCLIP()(of)
        assert_close(actual.scores, actual.units.keep(score_rows(of, added, of.score)))
