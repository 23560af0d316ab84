"""Hooks on a model that act only in the thread that sets them.

A user may run the same module in another thread while nibt computes. A hook of PyTorch acts in every thread, so it
would change the user's forward pass, and record its states as those of nibt's. All hooks of nibt are set here.
"""

import sys
import threading
from collections.abc import Callable
from typing import Any

import torch
from jaxtyping import Int
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from nibt.types import Hidden, OneRow


def select_row(stream: Hidden, row: Int[Tensor, " batch"]) -> OneRow:
    """Return one row of each item, of shape (batch, 1, width)."""
    return stream[torch.arange(len(stream), device=stream.device), row][:, None]


def row_mask(row: Int[Tensor, " batch"], mask: Tensor | None, is_causal: bool, stream: Hidden) -> Tensor | None:
    """Return the attention mask of one row of each item, of shape (batch, 1 or head, 1, key); None without a mask."""
    if mask is not None:
        of_items = mask.expand(len(stream), -1, -1, -1)
        return of_items[torch.arange(len(stream), device=stream.device), :, row][:, :, None]
    if not is_causal:
        return None
    return (torch.arange(stream.shape[1], device=stream.device) <= row[:, None])[:, None, None]


def has_hooks(block: nn.Module) -> bool:
    """Return whether a block or a child of it has hooks or a forward pass of its own, which may change its outputs."""
    return any(
        module._forward_hooks
        or module._forward_pre_hooks
        or module._backward_hooks
        or module._backward_pre_hooks
        or "forward" in vars(module)
        for module in (block, *block.children())
    )


def set_hook(
    register: Callable[..., RemovableHandle], hook: Callable[..., Any], with_kwargs: bool = False
) -> RemovableHandle:
    """Register a hook that does nothing in other threads; ``with`` removes it at its end."""
    thread = threading.get_ident()

    def act(*arguments: Any) -> Any:
        # PyTorch omits the keyword arguments if the hook is removed while another thread calls the module
        return hook(*arguments) if threading.get_ident() == thread else None

    # a compiled module traces its hooks, which a warning of get_ident breaks; without the compiler nothing is compiled
    untraced: Any = torch.compiler.disable(act) if "torch._dynamo" in sys.modules else act
    untraced.of_nibt = True  # no change of the model, for other threads
    return register(untraced, with_kwargs=with_kwargs)
