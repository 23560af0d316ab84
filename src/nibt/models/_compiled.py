"""Compiled models.

Code that ``torch.compile`` made cannot be observed, and every hook recompiles it. A compiled model is therefore
explained by uncompiled modules that share all parameters and buffers with it.
"""

from torch import nn


def is_compiled(module: nn.Module) -> bool:
    """Return whether ``torch.compile(child)`` or ``child.compile()`` was applied to a module or any child of it."""
    return any(_wrapped(child) or getattr(child, "_compiled_call_impl", None) is not None for child in module.modules())


def uncompiled(module: nn.Module) -> nn.Module:
    """Return the module if nothing in it is compiled; otherwise an uncompiled copy that computes the same.

    The copy has the same class, parameters and buffers. Its hooks are copies, so the compiled module is not changed.
    """
    return _stand_in(module, {}) if is_compiled(module) else module


def _wrapped(module: nn.Module) -> bool:
    """Return whether a module is the wrapper of ``torch.compile``; importing its class would import the compiler."""
    return type(module).__name__ == "OptimizedModule" and "_orig_mod" in module._modules


def _stand_in(module: nn.Module, copies: dict[int, nn.Module]) -> nn.Module:
    """Copy a module without its compilation; ``copies`` are by the id of their module, for shared parts."""
    while _wrapped(module):
        module = module._modules["_orig_mod"]  # pyright: ignore[reportAssignmentType]
    if id(module) not in copies:
        copies[id(module)] = copy = object.__new__(type(module))
        for name, value in vars(module).items():
            copy.__dict__[name] = value.copy() if "hooks" in name and isinstance(value, dict) else value
        copy.__dict__["_compiled_call_impl"] = None
        copy.__dict__["_modules"] = {
            name: None if child is None else _stand_in(child, copies) for name, child in module._modules.items()
        }

    return copies[id(module)]
