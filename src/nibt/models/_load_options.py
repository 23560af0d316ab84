"""The options with which models are loaded: keywords of ``load_model``, values of ``--load``, and keys of plans."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any

from nibt.options import ImageSize, OneOf, complete, field_types, parsed


@dataclass(frozen=True)
class LoadOptions:
    """The options of ``load_model`` that are texts or numbers."""

    device: str = "cpu"
    dtype: Annotated[str, OneOf(("float32", "float16", "bfloat16"))] = "float32"
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

    def __post_init__(self) -> None:
        complete(self)
