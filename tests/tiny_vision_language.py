"""Small random embedders on vision-language models, models with late interaction, and generators."""

import copy
from functools import cache

from benchmarks.models.tiny_encoder_decoder import ENCODER_DECODERS, git
from benchmarks.models.tiny_vision_language import EMBEDDERS, GENERATORS, LATE
from benchmarks.models.tiny_writers import IMAGE_READERS, MORE_GENERATORS, PAGE_READERS
from nibt.generators.answers import Generator
from nibt.generators.loading import load_generator
from nibt.models._loading import load_model
from nibt.models.base import Model
from tests.shared_models import shared
from tests.tiny import BuiltModel, coca, randomized

KINDS = {**EMBEDDERS, **LATE}
WRITERS = {**EMBEDDERS, **GENERATORS, **MORE_GENERATORS, "git": git}
_ALL = {**KINDS, **WRITERS, **ENCODER_DECODERS, **IMAGE_READERS, **PAGE_READERS}


def loading(kind: str) -> dict[str, str]:
    """Return the options with which a model of a kind is loaded."""
    return _ALL[kind]().options


@cache
def _built(kind: str) -> BuiltModel:
    if kind == "coca":
        return coca()
    making = _ALL[kind]()
    return BuiltModel(randomized(making.make), making.processor)


def built(kind: str) -> BuiltModel:
    """Return a new model of a kind, which a test may change, but for its processor."""
    plain = _built(kind)
    return BuiltModel(copy.deepcopy(plain.module), plain.processor, plain.tokenizer)


@shared
def model(kind: str) -> Model:
    """Return the model of a kind that all tests share, loaded from memory: a test must not change it."""
    plain = built(kind)
    return load_model(plain.module, processor=plain.processor, **loading(kind))


@shared
def generator(kind: str) -> Generator:
    """Return the generator of a kind that all tests share, loaded from memory: a test must not change it."""
    plain = built(kind)
    return load_generator(plain.module, processor=plain.processor)
