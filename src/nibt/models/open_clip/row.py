"""The last block of OpenCLIP's own transformers, computed only for the row that the head reads."""

from typing import Any

from jaxtyping import Int
from open_clip.transformer import ResidualAttentionBlock
from torch import Tensor, nn

from nibt.models._last_row import has_hooks, row_mask, select_row
from nibt.types import Hidden, OneRow


def one_row(
    block: Any,
    stream: Hidden,
    row: Int[Tensor, " batch"],
    k_x: Tensor | None = None,
    v_x: Tensor | None = None,
    attn_mask: Tensor | None = None,
) -> OneRow | None:
    """Compute one row of each item in the output of a ``ResidualAttentionBlock``, of shape (batch, 1, width)."""
    if type(block) is not ResidualAttentionBlock or has_hooks(block) or k_x is not None or v_x is not None:
        return None
    if not isinstance(block.attn, nn.MultiheadAttention):  # OpenCLIP 4 has its own attention
        return None
    residual, normed = select_row(stream, row), block.ln_1(stream)
    visible, heads = None, block.attn.num_heads
    if attn_mask is not None:  # the mask of all rows is common to the batch, or has a part for each item and head
        by_head = attn_mask[None, None] if attn_mask.ndim == 2 else attn_mask.unflatten(0, (len(stream), heads))
        of_row = row_mask(row, by_head, False, stream)
        assert of_row is not None
        visible = of_row.expand(-1, heads, -1, -1).flatten(0, 1).to(stream.dtype)
    mixed = block.attn(select_row(normed, row), normed, normed, need_weights=False, attn_mask=visible)[0]
    residual = residual + block.ls_1(mixed)
    return residual + block.ls_2(block.mlp(block.ln_2(residual)))
