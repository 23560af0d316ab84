"""Models that the tests of a process share, and a check that none of them changes."""

from collections.abc import Callable
from functools import cache
from typing import Any, TypeVar

from torch import nn

from nibt.models._loaded import LoadedModel

Loaded = TypeVar("Loaded", bound=LoadedModel)

AnyModel = TypeVar("AnyModel", bound=LoadedModel)
_LOADED: list[tuple[str, nn.Module, list[Any]]] = []
"""The kinds of the shared models, the models, and their states as they were loaded."""


def module_state(module: nn.Module) -> list[Any]:
    """Return all that would show a trace on a model: flags, hooks, attributes, and the versions of its parameters."""
    parts = [
        (
            name,
            part.training,
            list(part._forward_hooks),
            list(part._forward_pre_hooks),
            list(part._backward_hooks),
            getattr(getattr(part, "config", None), "_attn_implementation", None),
            getattr(part, "fused_attn", None),
            sorted(part.__dict__),
        )
        for name, part in module.named_modules()
    ]
    return [parts, [(one.requires_grad, one.grad is None, one.data_ptr(), one._version) for one in module.parameters()]]


def shared(load: Callable[[str], Loaded]) -> Callable[[str], Loaded]:
    """Load each kind of model once for all tests."""

    @cache
    def loaded(kind: str) -> Loaded:
        model = load(kind)
        _LOADED.append((f"{load.__module__} {kind}", model.module, module_state(model.module)))
        return model

    return loaded


def changed() -> list[str]:
    """Return the kinds of the shared models that are not as they were loaded, and forget these models."""
    others = [loaded for loaded in _LOADED if module_state(loaded[1]) != loaded[2]]
    for loaded in others:
        _LOADED.remove(loaded)  # one file fails, not all that follow
    return [kind for kind, _, _ in others]
