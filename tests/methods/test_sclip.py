"""Tests of ``nibt.methods.replaced_attention``."""

import pytest
from torch import Tensor

from nibt.methods._attention import score_rows
from nibt.methods.replaced_attention import SCLIP
from nibt.models._attention import with_attention
from tests import tiny
from tests.helpers import assert_close, both_sides, make_side
from tests.methods.last_block import KINDS, queries_as_keys, scores_by_hand, sides, softmax


def correlated(query: Tensor, key: Tensor, hidden: Tensor) -> Tensor:
    return softmax(query, query, hidden) + softmax(key, key, hidden)


@both_sides
@KINDS
def test_sclip_equals_a_model_with_another_last_attention(kind: str, modality: str) -> None:
    of = make_side(tiny.model(kind), modality)
    assert_close(SCLIP()(of).scores, scores_by_hand(of, kind, modality, correlated, alone=False))


@pytest.mark.parametrize("kind", ["clip", "siglip"])
def test_sclip_doubles_the_attention_if_queries_are_keys(kind: str) -> None:
    """The weights of a row add up to 2; where the head pools by attention, the block before it is replaced."""
    for of in sides(queries_as_keys(kind)):
        doubled = with_attention(of.trace, of.tower.depth - 1, lambda record: 2 * record.output).stream
        actual = SCLIP()(of)
        assert_close(actual.scores, actual.units.keep(score_rows(of, doubled, of.score)))
