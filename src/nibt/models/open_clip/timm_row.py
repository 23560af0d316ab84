"""The last block of timm's ViTs and EVAs, computed only for the class token, if the head reads nothing else."""

from typing import Any

import torch
import torch.nn.functional as F
from timm.layers import apply_rot_embed_cat
from torch import Tensor, nn

from nibt.models._hooks import has_hooks
from nibt.types import Hidden, OneRow

_TRUNKS = {"VisionTransformer", "NaFlexVit", "Eva"}
_BLOCKS = {"Block", "EvaBlock"}
_ATTENTIONS = {"Attention", "EvaAttention", "AttentionRope"}
_PERCEPTRONS = {"Mlp", "GluMlp", "SwiGLU"}  # others mix rows


def reads_class_token(trunk: Any) -> bool:
    """Return whether the head of a trunk reads only the class token, the first row."""
    return (
        type(trunk).__name__ in _TRUNKS
        and getattr(trunk, "attn_pool", None) is None
        and trunk.global_pool == "token"
        and trunk.num_prefix_tokens > 0
    )


def class_row(
    block: Any,
    stream: Hidden,
    rope: Tensor | None = None,
    attn_mask: Tensor | None = None,
    is_causal: bool = False,
    **others: Any,
) -> OneRow | None:
    """Compute the first row of each item in the output of a block, of shape (batch, 1, width).

    The class token has no place, so its query is not rotated; the keys of the patches are.
    """
    if attn_mask is not None or is_causal or any(value is not None for value in others.values()):
        return None
    if type(block).__name__ not in _BLOCKS or block.training or has_hooks(block):
        return None
    normed = block.norm1(stream)
    mixed = _attend(block.attn, normed, rope) if type(block.mlp).__name__ in _PERCEPTRONS else None
    if mixed is None:
        return None
    residual = stream[:, :1] + _scaled(block, 1, mixed)
    return residual + _scaled(block, 2, block.mlp(block.norm2(residual)))


def _attend(attention: Any, normed: Hidden, rope: Tensor | None) -> OneRow | None:
    """Compute the first row of an attention; None for other classes than timm's three."""
    if type(attention).__name__ not in _ATTENTIONS or has_hooks(attention):
        return None
    projected = _projected(attention, normed)
    if projected is None:
        return None
    shape = (len(normed), -1, attention.num_heads, projected[0].shape[-1] // attention.num_heads)
    query, key, value = (rows.view(shape).transpose(1, 2) for rows in projected)
    query, key = attention.q_norm(query), attention.k_norm(key)
    if rope is not None:
        prefix, half = attention.num_prefix_tokens, {"half": True} if getattr(attention, "rotate_half", False) else {}
        turned = apply_rot_embed_cat(key[:, :, prefix:], rope, **half)
        query, key = query.type_as(value), torch.cat([key[:, :, :prefix], turned], 2).type_as(value)
    mixed = F.scaled_dot_product_attention(query, key, value).transpose(1, 2).flatten(2)
    mixed = getattr(attention, "norm", nn.Identity())(mixed)
    gate = getattr(attention, "gate", None)
    return attention.proj(mixed if gate is None else mixed * gate(normed[:, :1]).sigmoid())


def _projected(attention: Any, normed: Hidden) -> tuple[OneRow, Hidden, Hidden] | None:
    """Return the query of the first row, and the keys and values of all rows; None for other projections."""
    joint = attention.qkv
    if joint is None:
        if getattr(attention, "num_kv_groups", 1) > 1:
            return None
        return attention.q_proj(normed[:, :1]), attention.k_proj(normed), attention.v_proj(normed)
    if type(joint) is not nn.Linear:  # adapted or quantized, so its weight does not say what it computes
        return None
    width, bias = joint.out_features // 3, joint.bias
    if getattr(attention, "q_bias", None) is not None:
        bias = torch.cat([attention.q_bias, attention.k_bias, attention.v_bias])
    first, others = (None, None) if bias is None else (bias[:width], bias[width:])
    query = F.linear(normed[:, :1], joint.weight[:width], first)
    key, value = F.linear(normed, joint.weight[width:], others).chunk(2, -1)
    return query, key, value


def _scaled(block: Any, number: int, rows: OneRow) -> OneRow:
    """Scale the output of the attention (1) or of the perceptron (2), as each class of blocks does it."""
    gamma = getattr(block, f"gamma_{number}", None)
    return getattr(block, f"ls{number}", nn.Identity())(rows if gamma is None else gamma * rows)
