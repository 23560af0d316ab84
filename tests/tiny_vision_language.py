"""Small random embedders on vision-language models, and small random models with late interaction."""

from functools import cache

from benchmarks.tiny_vision_language import EMBEDDERS, LATE
from nibt.models._loading import load_model
from nibt.models.base import Model
from tests.tiny import BuiltModel, randomized

KINDS = {**EMBEDDERS, **LATE}


def loading(kind: str) -> dict[str, str]:
    """Return the options with which a model of a kind is loaded."""
    return KINDS[kind]().options


@cache
def built(kind: str) -> BuiltModel:
    making = KINDS[kind]()
    return BuiltModel(randomized(making.make), making.processor)


@cache
def model(kind: str) -> Model:
    """Return a model of a kind, loaded from memory."""
    plain = built(kind)
    return load_model(plain.module, processor=plain.processor, **loading(kind))
