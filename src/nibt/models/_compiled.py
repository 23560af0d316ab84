"""Modules that ``torch.compile`` has wrapped or marked, and the same modules without it.

Inside compiled code nothing that is computed can be watched, and each hook makes torch compile anew. What is compiled
is therefore explained as it was before: by modules that share all parameters and buffers with it.
"""

from torch import nn


def is_compiled(module: nn.Module) -> bool:
    """Whether ``torch.compile(part)`` or ``part.compile()`` was applied to a module or any part of it."""
    return any(_wrapped(part) or getattr(part, "_compiled_call_impl", None) is not None for part in module.modules())


def uncompiled(module: nn.Module) -> nn.Module:
    """The module itself if nothing in it is compiled; otherwise its stand-in, which computes the same.

    A stand-in has the same class, parameters and buffers, and hooks of its own that begin as copies, so that the
    compiled module is left as it is.
    """
    return _stand_in(module, {}) if is_compiled(module) else module


def _wrapped(module: nn.Module) -> bool:
    """Whether it is the wrapper that ``torch.compile`` returns; importing its class would import the compiler."""
    return type(module).__name__ == "OptimizedModule" and "_orig_mod" in module._modules


def _stand_in(module: nn.Module, known: dict[int, nn.Module]) -> nn.Module:
    """``known`` has the stand-ins so far by the id of their module: parts may be shared."""
    while _wrapped(module):
        module = module._modules["_orig_mod"]  # pyright: ignore[reportAssignmentType]
    if id(module) not in known:
        known[id(module)] = copy = object.__new__(type(module))
        for name, value in vars(module).items():
            copy.__dict__[name] = value.copy() if "hooks" in name and isinstance(value, dict) else value
        copy.__dict__["_compiled_call_impl"] = None
        copy.__dict__["_modules"] = {
            name: None if child is None else _stand_in(child, known) for name, child in module._modules.items()
        }
    return known[id(module)]
