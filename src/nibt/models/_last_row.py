"""The last block for the one row that the head reads: what families share that know how to compute it.

All rows are keys and values there; only the row that is read needs a query, a projection and a multilayer perceptron.
That is exact, and saves five sixths of the block's products.
"""

import torch
from jaxtyping import Int
from torch import Tensor, nn

from nibt.types import Hidden, OneRow


def picked(stream: Hidden, row: Int[Tensor, " batch"]) -> OneRow:
    """One row of each item, (batch, 1, width)."""
    return stream[torch.arange(len(stream), device=stream.device), row][:, None]


def seen_from(row: Int[Tensor, " batch"], mask: Tensor | None, is_causal: bool, stream: Hidden) -> Tensor | None:
    """The mask of the keys that one row of each item sees, (batch, 1 or head, 1, key).

    ``mask`` is that of all rows, (batch or 1, 1 or head, query, key); without one a causal row sees no later row.
    """
    if mask is not None:
        whole = mask.expand(len(stream), -1, -1, -1)
        return whole[torch.arange(len(stream), device=stream.device), :, row][:, :, None]
    if not is_causal:
        return None
    return (torch.arange(stream.shape[1], device=stream.device) <= row[:, None])[:, None, None]


def replace_forward(block: nn.Module) -> bool:
    """Whether somebody watches or changes what the block is given or gives, or the attention in it."""
    return any(
        part._forward_hooks or part._forward_pre_hooks or part._backward_hooks or part._backward_pre_hooks
        for part in (block, *block.children())
    )
