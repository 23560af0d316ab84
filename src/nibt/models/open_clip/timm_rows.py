"""The blocks of timm's ViTs and EVAs, computed only for their first rows: the class token and registers."""

from typing import Any

import torch
import torch.nn.functional as F
from timm.layers import apply_rot_embed_cat
from torch import Tensor, nn

from nibt.models._hooks import has_hooks
from nibt.types import Hidden

_TRUNKS = {"VisionTransformer", "NaFlexVit", "Eva"}
_BLOCKS = {"timm.models.vision_transformer.Block", "timm.models.eva.EvaBlock"}  # BEiT has other blocks of that name
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


def first_rows(
    block: Any,
    stream: Hidden,
    count: int,
    rope: Tensor | None = None,
    attn_mask: Tensor | None = None,
    is_causal: bool = False,
    **others: Any,
) -> Tensor | None:
    """Compute the first rows of each item in the output of a block, of shape (batch, count, width).

    These tokens have no place, so their queries are not rotated; the keys of the patches are.
    """
    if attn_mask is not None or is_causal or any(value is not None for value in others.values()):
        return None
    if f"{type(block).__module__}.{type(block).__name__}" not in _BLOCKS or block.training or has_hooks(block):
        return None
    normed = block.norm1(stream)
    mixed = _attend(block.attn, normed, count, rope) if type(block.mlp).__name__ in _PERCEPTRONS else None
    if mixed is None:
        return None
    residual = stream[:, :count] + _scaled(block, 1, mixed)
    return residual + _scaled(block, 2, block.mlp(block.norm2(residual)))


def _attend(attention: Any, normed: Hidden, count: int, rope: Tensor | None) -> Tensor | None:
    """Compute the first rows of an attention; None for other classes than timm's three, or for rotated rows."""
    if type(attention).__name__ not in _ATTENTIONS or has_hooks(attention):
        return None
    if rope is not None and count > attention.num_prefix_tokens:
        return None
    projected = _projected(attention, normed, count)
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
    return attention.proj(mixed if gate is None else mixed * gate(normed[:, :count]).sigmoid())


def _projected(attention: Any, normed: Hidden, count: int) -> tuple[Tensor, Hidden, Hidden] | None:
    """Return the queries of the first rows, and the keys and values of all rows; None for other projections."""
    joint = attention.qkv
    if joint is None:
        if getattr(attention, "num_kv_groups", 1) > 1:
            return None
        return attention.q_proj(normed[:, :count]), attention.k_proj(normed), attention.v_proj(normed)
    if type(joint) is not nn.Linear:  # adapted or quantized, so its weight does not say what it computes
        return None
    width, bias = joint.out_features // 3, joint.bias
    if getattr(attention, "q_bias", None) is not None:
        bias = torch.cat([attention.q_bias, attention.k_bias, attention.v_bias])
    first, others = (None, None) if bias is None else (bias[:width], bias[width:])
    query = F.linear(normed[:, :count], joint.weight[:width], first)
    key, value = F.linear(normed, joint.weight[width:], others).chunk(2, -1)
    return query, key, value


def _scaled(block: Any, number: int, rows: Tensor) -> Tensor:
    """Scale the output of the attention (1) or of the perceptron (2), as each class of blocks does it."""
    gamma = getattr(block, f"gamma_{number}", None)
    return getattr(block, f"ls{number}", nn.Identity())(rows if gamma is None else gamma * rows)
