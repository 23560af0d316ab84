"""The family of a checkpoint or of a model in memory, and the models that are refused for a reason."""

from collections.abc import Iterable, Iterator
from difflib import get_close_matches
from typing import Any

from torch import nn

from nibt.errors import CannotLoad
from nibt.models._failures import WritesText
from nibt.models._family import Family, class_names
from nibt.registry import available, find

_REFUSED = {
    "clap": ("ClapModel", "it compares sounds with captions, and nibt explains images and captions"),
    "xclip": ("XCLIPModel", "it compares videos with captions, and the embedding of a caption depends on the video"),
}


def families() -> Iterator[tuple[str, type[Family]]]:
    """Yield the names and the classes of all families."""
    for name in available("models"):
        yield name, find("models", name)


def family_of_generator(classes: Iterable[str]) -> str | None:
    """Return the name of the family of a generator by the names of its classes; None if there is none."""
    names = {*classes}
    return next((name for name, family in families() if not names.isdisjoint(family.generator_classes)), None)


def check_no_generator(name: str, classes: Iterable[str]) -> None:
    """Check that a model that no family takes does not write text."""
    if family_of_generator(classes) is not None:
        raise WritesText(
            f"{name!r} writes text about images, and does not compare them with captions: use nibt answer, "
            "explain_answer, or nibt batch with a column of prompts and none of captions"
        )


def family_of_type(name: str, model_type: Any) -> str:
    """Return the name of the family of a ``model_type``."""
    supported = {key: family for family, family_class in families() for key in family_class.model_types}
    if model_type in supported:
        return supported[model_type]
    problem = f"{name!r} has the model_type {model_type!r}, which is not supported"
    if model_type in _REFUSED:
        raise CannotLoad(f"{problem}: {_REFUSED[model_type][1]}")
    near = get_close_matches(str(model_type), supported, n=3, cutoff=0)
    raise CannotLoad(
        f"{problem}; the most similar ones that are: {', '.join(near)} (all are in the reference of models)"
    )


def family_of_module(module: nn.Module) -> str | None:
    """Return the name of the family of a module; None if there is none."""
    names = class_names(module)
    return next((name for name, family_class in families() if not names.isdisjoint(family_class.class_names)), None)


def refusal(module: nn.Module) -> str:
    """Return why a module of a known class is refused; an empty text for other classes."""
    names = class_names(module)
    return next((reason for name, reason in _REFUSED.values() if name in names), "")


def known_classes() -> str:
    """Return the class names of all families."""
    return ", ".join(name for _, family_class in families() for name in family_class.class_names)
