"""Tests of ``nibt.models.open_clip.image``: the oracle is the whole block of timm."""

from collections.abc import Callable
from inspect import signature
from typing import Any

import pytest
import timm
import torch
from timm.models.eva import EvaBlock
from timm.models.vision_transformer import Block
from torch import Tensor, nn

from nibt.models.open_clip.image import first_rows, reads_class_token

WIDTH, HEADS = 16, 2
HALF = {"rotate_half": True} if "rotate_half" in signature(EvaBlock).parameters else {}  # old versions do not have it
BLOCKS: dict[str, Callable[[], nn.Module]] = {
    "vit": lambda: Block(WIDTH, HEADS, qkv_bias=True),
    "vit without biases": lambda: Block(WIDTH, HEADS, qkv_bias=False, proj_bias=False),
    "vit with scales and norms": lambda: Block(
        WIDTH, HEADS, qkv_bias=True, qk_norm=True, scale_attn_norm=True, scale_mlp_norm=True, init_values=0.5
    ),
    "eva": lambda: EvaBlock(WIDTH, HEADS, num_prefix_tokens=2),
    "eva without biases": lambda: EvaBlock(WIDTH, HEADS, qkv_bias=False, num_prefix_tokens=2),
    "eva 02": lambda: EvaBlock(
        WIDTH,
        HEADS,
        qkv_fused=False,
        swiglu_mlp=True,
        scale_mlp=True,
        scale_attn_inner=True,
        num_prefix_tokens=2,
        init_values=0.5,
    ),
    "eva with packed gates": lambda: EvaBlock(WIDTH, HEADS, swiglu_mlp=True, num_prefix_tokens=2),
    "eva with half rotations": lambda: EvaBlock(
        WIDTH, HEADS, attn_type="rope", qkv_fused=False, num_prefix_tokens=2, **HALF
    ),
}


def drawn(make: Callable[[], nn.Module]) -> nn.Module:
    """A block whose parameters all matter, with seeded values."""
    block, generator = make().eval(), torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in block.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=generator) / 3)
    return block


def stream() -> Tensor:
    """Two prefix tokens and nine patches of three images."""
    return torch.randn(3, 11, WIDTH, generator=torch.Generator().manual_seed(1))


def arguments(kind: str) -> dict[str, Any]:
    """Angles of the nine patches, for blocks that rotate."""
    angles = torch.rand(9, WIDTH // HEADS, generator=torch.Generator().manual_seed(2))
    return {"rope": torch.cat([angles.sin(), angles.cos()], -1)} if "eva" in kind else {}


@pytest.mark.parametrize("count", [1, 2])
@pytest.mark.parametrize("kind", BLOCKS)
def test_first_rows_equal_those_of_the_block(kind: str, count: int) -> None:
    """Equal values, and equal gradients at all rows."""
    block, states = drawn(BLOCKS[kind]), stream().requires_grad_()
    wanted, actual = block(states, **arguments(kind))[:, :count], first_rows(block, states, count, **arguments(kind))
    assert actual is not None
    torch.testing.assert_close(actual, wanted, rtol=1e-5, atol=1e-5)
    pull = torch.randn(wanted.shape, generator=torch.Generator().manual_seed(3))
    expected, gradient = (torch.autograd.grad(rows, states, pull)[0] for rows in (wanted, actual))
    assert expected[:, count:].abs().max() > 1e-3  # the patches matter, too
    torch.testing.assert_close(gradient, expected, rtol=1e-4, atol=1e-5)


def test_other_blocks_and_arguments_are_left_to_timm() -> None:
    block = drawn(BLOCKS["vit"])
    assert first_rows(block, stream(), 1, attn_mask=torch.zeros(11, 11)) is None
    assert first_rows(block, stream(), 1, is_causal=True) is None
    assert first_rows(block, stream(), 1, something=1) is None
    assert first_rows(drawn(lambda: Block(WIDTH, HEADS)).train(), stream(), 1) is None
    assert first_rows(nn.Identity(), stream(), 1) is None
    adapted = drawn(BLOCKS["vit"])
    adapted.attn.qkv = nn.Sequential(adapted.attn.qkv)
    assert first_rows(adapted, stream(), 1) is None
    observed = drawn(BLOCKS["vit"])
    observed.attn.qkv.register_forward_hook(lambda module, args, out: None)
    assert first_rows(observed, stream(), 1) is None
    grouped = drawn(BLOCKS["eva with half rotations"])
    grouped.attn.num_kv_groups = 2
    assert first_rows(grouped, stream(), 1) is None


@pytest.mark.parametrize(
    ("name", "pool", "expected"),
    [
        ("test_vit", "token", True),
        ("test_vit", "avg", False),
        ("test_vit", "map", False),
        ("deit_tiny_distilled_patch16_224", "token", False),  # its head reads two tokens
    ],
)
def test_only_heads_of_the_class_token_qualify(name: str, pool: str, expected: bool) -> None:
    assert reads_class_token(timm.create_model(name, num_classes=0, global_pool=pool)) is expected


def test_blocks_of_beit_are_left_to_timm() -> None:
    """They have the names of those of ViT, and a bias for relative positions."""
    trunk = timm.create_model(
        "beit_base_patch16_224", num_classes=0, img_size=32, patch_size=8, embed_dim=16, depth=1, num_heads=2
    )
    assert first_rows(trunk.blocks[0].eval(), torch.randn(1, 17, 16), 1) is None


def test_a_replaced_forward_pass_is_left_to_timm() -> None:
    block = drawn(BLOCKS["vit"])
    block.attn.forward = block.attn.forward
    assert first_rows(block, stream(), 1) is None
