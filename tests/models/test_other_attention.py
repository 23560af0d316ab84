"""Tests of ``nibt.models._attention``, and of the replay of a block with another attention."""

from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.overrides import _get_current_function_mode_stack as modes

from nibt.errors import Unsupported
from nibt.models._attention import AttentionRecord, pools_by_attention, record_attentions, with_attention
from nibt.models._tower import Trace
from tests import axiom_towers as towers
from tests import tiny
from tests.helpers import assert_close, make_inputs
from tests.shared_models import module_state
from tests.suites import COVER, few

"""Kinds whose image tower has no attention."""


SIDES = [
    (kind, side)
    for kind in tiny.KINDS
    for side in ("image", "text")
    if side == "text" or kind not in tiny.CONVOLUTIONAL
]


every_tower = pytest.mark.parametrize(("kind", "modality"), few(SIDES, [case for case in SIDES if case[0] in COVER]))


def traced(kind: str, modality: Any) -> Trace:
    tower = tiny.model(kind).tower(modality)
    return tower.trace(make_inputs(tower))


@every_tower
def test_block_with_its_own_attention_is_unchanged(kind: str, modality: str) -> None:
    trace = traced(kind, modality)
    for number in range(trace.tower.depth):
        same = with_attention(trace, number, lambda record: record.output)
        assert_close(same.stream, trace.cut(number + 1).hidden)


@every_tower
def test_what_is_added_is_linear_in_the_attention(kind: str, modality: str) -> None:
    """A projection, scales and a bias, but no perceptron: multiples of the output lie on a line.

    EVA has a norm between the attention and its projection.
    """
    trace = traced(kind, modality)
    if (kind, modality) == ("timm eva", "image"):
        return
    for number in range(trace.tower.depth):
        none, one, two = (
            with_attention(trace, number, lambda record, times=times: times * record.output).added
            for times in (0.0, 1.0, 2.0)
        )
        assert not torch.allclose(one, none)
        assert_close(two - one, one - none)


@pytest.mark.parametrize("modality", ["image", "text"])
def test_what_is_added_is_the_projection_of_the_attention(modality: str) -> None:
    """In CLIP, for any output."""
    trace = traced("clip", modality)
    block = trace.tower.blocks[1]

    def attend(record: AttentionRecord) -> Tensor:
        return record.value.flip(-1)

    flipped = block.self_attn.v_proj(block.layer_norm1(trace.cut(1).hidden))
    flipped = flipped.unflatten(-1, (block.self_attn.num_heads, -1)).flip(-1).flatten(2)
    both = with_attention(trace, 1, attend)
    assert_close(both.added, block.self_attn.out_proj(flipped).detach())
    middle = trace.cut(1).hidden + both.added
    assert_close(both.stream, (middle + block.mlp(block.layer_norm2(middle))).detach())


@every_tower
def test_trace_knows_whether_the_head_pools_by_attention(kind: str, modality: str) -> None:
    trace = traced(kind, modality)
    if trace.tower.depth:
        assert pools_by_attention(trace) == (record_attentions(trace, trace.tower.depth - 1).pooling is not None)


def test_pooling_heads_are_those_of_siglip_and_coca() -> None:
    assert pools_by_attention(traced("siglip", "image"))
    assert pools_by_attention(traced("coca", "image"))
    assert not pools_by_attention(traced("siglip", "text"))
    assert not pools_by_attention(traced("clip", "image"))


def test_replay_leaves_no_trace() -> None:
    trace = traced("clip", "image")
    before = module_state(tiny.model("clip").module)

    def broken(record: AttentionRecord) -> Tensor:
        raise ValueError

    with pytest.raises(ValueError):  # noqa: PT011
        with_attention(trace, 0, broken)
    assert module_state(tiny.model("clip").module) == before
    assert modes() == []
    assert with_attention(trace, 0, lambda record: record.value).stream.requires_grad is False


class Silent(nn.Module):
    """A block with an attention that it does not add to its input."""

    def forward(self, stream: Tensor) -> Tensor:
        heads = stream[:, None]
        return F.scaled_dot_product_attention(heads, heads, heads)[:, 0]


def test_block_that_adds_nothing_is_rejected() -> None:
    side = towers.side("image")
    net = towers.net("image", True)
    net.blocks = nn.ModuleList([Silent()])
    trace = towers.SmallImage(net).trace(side.inputs)
    with pytest.raises(Unsupported, match="block 0 of this image tower does not add its attention to its input: use"):
        with_attention(trace, 0, lambda record: record.output)
