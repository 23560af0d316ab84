"""The last of OpenCLIP's own blocks, for the one row that the head reads."""

from typing import Any

from jaxtyping import Int
from open_clip.transformer import ResidualAttentionBlock
from torch import Tensor

from nibt.models._last_row import picked, replace_forward, seen_from
from nibt.types import Hidden, OneRow


def one_row(
    block: Any,
    stream: Hidden,
    row: Int[Tensor, " batch"],
    k_x: Tensor | None = None,
    v_x: Tensor | None = None,
    attn_mask: Tensor | None = None,
) -> OneRow | None:
    """What leaves a ``ResidualAttentionBlock`` in one row of each item, (batch, 1, width); None for other blocks, and
    where keys come from elsewhere.
    """
    if type(block) is not ResidualAttentionBlock or replace_forward(block) or k_x is not None or v_x is not None:
        return None
    own, normed = picked(stream, row), block.ln_1(stream)
    seen = None if attn_mask is None else _seen(row, attn_mask, stream, block.attn.num_heads)
    mixed = block.attn(picked(normed, row), normed, normed, need_weights=False, attn_mask=seen)[0]
    own = own + block.ls_1(mixed)
    return own + block.ls_2(block.mlp(block.ln_2(own)))


def _seen(row: Int[Tensor, " batch"], mask: Tensor, stream: Hidden, heads: int) -> Tensor:
    """The mask of one row of each item and head, (batch x head, 1, key), of one for all, or of one for each."""
    whole = mask[None, None] if mask.ndim == 2 else mask.unflatten(0, (len(stream), heads))
    seen = seen_from(row, whole, False, stream)
    assert seen is not None
    return seen.expand(-1, heads, -1, -1).flatten(0, 1).to(stream.dtype)
