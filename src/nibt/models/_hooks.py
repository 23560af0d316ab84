"""Hooks on a model that act only in the thread that sets them.

A user may run the same module in another thread while nibt computes. A hook of PyTorch acts in every thread, so it
would change the user's forward pass, and record its states as those of nibt's. All hooks of nibt are set here.
"""

import sys
import threading
from collections.abc import Callable
from typing import Any

import torch
from torch.utils.hooks import RemovableHandle


def set_hook(
    register: Callable[..., RemovableHandle], hook: Callable[..., Any], with_kwargs: bool = False
) -> RemovableHandle:
    """Register a hook that does nothing in other threads; ``with`` removes it at its end."""
    thread = threading.get_ident()

    def act(*arguments: Any) -> Any:
        # PyTorch omits the keyword arguments if the hook is removed while another thread calls the module
        return hook(*arguments) if threading.get_ident() == thread else None

    # a compiled module traces its hooks, which a warning of get_ident breaks; without the compiler nothing is compiled
    untraced = torch.compiler.disable(act) if "torch._dynamo" in sys.modules else act
    return register(untraced, with_kwargs=with_kwargs)
