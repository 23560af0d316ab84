"""The options with which a model is loaded."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, Literal

import torch
from torch import nn

from nibt.errors import UnknownName
from nibt.options import ImageSize, OneOf, complete, field_types, parsed

EMBEDDING = ("pooling", "instruction", "image_prompt", "text_prompt", "positions")
"""What says how a vision-language model embeds a prompt."""


@dataclass(frozen=True)
class Request:
    """The options with which a model is loaded, and what loading adds to them."""

    dtype: torch.dtype = torch.float32
    resize: str | None = None
    image_size: int | None = None
    processor: Any = None
    tokenizer: Any = None
    notes: tuple[str, ...] = ()  # for every result
    ignored: tuple[str, ...] = ()  # what a folder has and no result depends on
    embedding: Mapping[str, Any] = field(default_factory=dict)  # values of ``EMBEDDING``
    facts: Mapping[str, Any] = field(default_factory=dict)  # for records, besides the name and the weights
    folder: Path | None = None  # of a local or embedded model
    defaults: Mapping[str, Any] = field(default_factory=dict)  # recommended values of options
    generation: Literal["greedy", "model"] = "greedy"  # how a generator writes
    after: nn.Module | None = None  # what follows the encoders in a folder of sentence-transformers

    @property
    def image_processor(self) -> Any:
        """The part of the processor that takes images."""
        return getattr(self.processor, "image_processor", self.processor)

    @property
    def text_tokenizer(self) -> Any:
        """The tokenizer, or that of the processor; None if there is none."""
        return self.tokenizer or getattr(self.processor, "tokenizer", None)


@dataclass(frozen=True)
class _Placement:
    """The options of loading that all models share."""

    device: str = "cpu"
    dtype: Annotated[str, OneOf(("float32", "float16", "bfloat16"))] = "float32"

    def __post_init__(self) -> None:
        complete(self)


@dataclass(frozen=True)
class GenerationOptions(_Placement):
    """The options of ``load_generator`` that are texts."""

    generation: Annotated[str, OneOf(("greedy", "model"))] = "greedy"


@dataclass(frozen=True)
class LoadOptions(_Placement):
    """The options of ``load_model`` that are texts or numbers."""

    resize: Annotated[str, OneOf(("model", "whole"))] | None = None
    image_size: ImageSize | None = None
    pooling: Annotated[str, OneOf(("last", "mean"))] | None = None
    instruction: str | None = None
    image_prompt: str | None = None
    text_prompt: str | None = None

    @classmethod
    def read(cls, values: Mapping[str, Any]) -> "LoadOptions":
        """Read values of a file or a plan, whose types are not known."""
        types = field_types(cls)
        return cls(**{name: parsed(name, value, types[name]) for name, value in values.items()})


def check_loading(loading: Mapping[str, Any], options: type, *others: str) -> None:
    """Check the names of options of loading."""
    names = (*field_types(options), *others)
    for name in loading:
        if name not in names:
            raise UnknownName("options of loading", name, names)
