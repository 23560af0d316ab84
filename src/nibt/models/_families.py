"""The family of a checkpoint or of a model in memory, and the models that are refused for a reason."""

from collections.abc import Iterator
from typing import Any

from torch import nn

from nibt.errors import CannotLoad
from nibt.models._family import Family
from nibt.registry import available, find

_REFUSED = {
    "clap": ("ClapModel", "it compares sounds with captions, and nibt explains images and captions"),
    "xclip": ("XCLIPModel", "it compares videos with captions, and the embedding of a caption depends on the video"),
}


def families() -> Iterator[tuple[str, type[Family]]]:
    """Yield the names and the classes of all families."""
    for name in available("models"):
        yield name, find("models", name)


def family_of_type(name: str, kind: Any) -> str:
    """Return the name of the family of a ``model_type``."""
    for family, part in families():
        if kind in part.model_types:
            return family
    if kind in _REFUSED:
        raise CannotLoad(f"{name!r} has the model_type {kind!r}, which is not supported: {_REFUSED[kind][1]}")
    known = ", ".join(kind for _, part in families() for kind in part.model_types)
    raise CannotLoad(f"{name!r} has the model_type {kind!r}, which is not supported; use {known}, or OpenCLIP's models")


def family_of_module(module: nn.Module) -> str | None:
    """Return the name of the family of a module; None if there is none.

    Classes of sentence-transformers are left out, since they have the names of the classes that they wrap.
    """
    names = {kind.__name__ for kind in type(module).__mro__ if not kind.__module__.startswith("sentence_transformers")}
    return next((name for name, part in families() if names & set(part.class_names)), None)


def refusal(module: nn.Module) -> str:
    """Return why a module of a known class is refused; an empty text for other classes."""
    names = {kind.__name__ for kind in type(module).__mro__}
    return next((reason for name, reason in _REFUSED.values() if name in names), "")


def known_classes() -> str:
    """Return the class names of all families."""
    return ", ".join(name for _, part in families() for name in part.class_names)
