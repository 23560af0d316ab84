"""Types that all of nibt shares: tensors with named dimensions, the record of a model, dataclasses of arrays."""

from collections.abc import Hashable, Mapping
from dataclasses import fields, is_dataclass
from typing import Literal, NotRequired, TypeAlias

import numpy as np
from jaxtyping import Float
from torch import Tensor
from typing_extensions import TypedDict

Modality: TypeAlias = Literal["image", "text"]
MeasuredSide: TypeAlias = Literal[Modality, "regions"]  # the map of a side, or the regions of the words of a pair
Source: TypeAlias = Literal["image", "prompt", "earlier"]
SOURCES: tuple[Source, ...] = ("image", "prompt", "earlier")
"""What an answer's word can come from: the image, the prompt, and the words of the answer before it."""
RUNNER_UP = "runner-up"
"""Stands for the most probable other token at each place of an answer."""

Hidden: TypeAlias = Float[Tensor, "batch token width"]
States: TypeAlias = Float[Tensor, "node batch token width"]  # the states of each example at the nodes of a path
AtNodes: TypeAlias = Float[Tensor, "node batch *item"]  # what is computed of such states
Embedding: TypeAlias = Float[
    Tensor, "*embedded dim"
]  # (..., batch, dim); with late interaction, (..., batch, vector, dim)
OtherEmbedding: TypeAlias = Float[Tensor, "..."]  # of the other side; broadcast over the states of this side
OneRow: TypeAlias = Float[Tensor, "batch 1 width"]
PerToken: TypeAlias = Float[Tensor, "batch token"]  # all tokens, special tokens included
PerUnit: TypeAlias = Float[Tensor, "*batch unit"]  # patches, or the tokens of a caption
PerExample: TypeAlias = Float[Tensor, "*batch"]
UnitValues: TypeAlias = Float[Tensor, "batch unit *value"]  # a score of each unit, or a vector


class Sigmoid(TypedDict):
    """How a cosine becomes the probability of a match: sigmoid(scale x cosine + bias)."""

    scale: float
    bias: float


class ModelRecord(TypedDict):
    """A model's name, hashes and preprocessing of images, as files have it."""

    # pydantic reads this; it is not imported here, since "import nibt" needs none
    __pydantic_config__ = {"extra": "forbid", "use_attribute_docstrings": True}  # pyright: ignore  # noqa: RUF012

    id: str
    """The name or the folder that the model was loaded from."""
    family: str
    weights_hash: str
    """16 hexadecimal digits."""
    configuration_hash: str
    """16 hexadecimal digits."""
    dtype: str
    device: str
    quantization: NotRequired[str]
    """How weights are quantized, such as ``nf4 (bitsandbytes)``; only if they are."""
    resize: str
    image_size: int | None
    quick_gelu: NotRequired[bool]
    """OpenCLIP only: whether the model uses QuickGELU."""
    text_model: NotRequired[str]
    """The name or the folder of the text encoder; only if it is that of another model."""
    similarity: NotRequired[str]
    """Only for models that do not compare embeddings by their cosine: ``max_sim``, ``logit`` of classifiers, or the
    score of a model that reads both sides in one network: ``matching``, ``box``, ``mask``, or such as ``box:1``."""
    sigmoid: NotRequired[Sigmoid]
    """Only for models that give each pair a probability, such as SigLIP: the scale and the bias of its logit."""
    pooling: NotRequired[str]
    """Vision-language models only: ``last`` or ``mean``."""
    image_prompt: NotRequired[str]
    """Vision-language models only: the prompt of an image."""
    text_prompt: NotRequired[str]
    """Vision-language models only: the prompt of a text, with ``{text}``."""
    positions: NotRequired[str]
    """Vision-language models only: ``sequential`` if tokens are numbered in order, without the axes of the image."""
    variant: NotRequired[str]
    """Which files of its weights the model was loaded from, such as ``fp16``; only if a variant was chosen."""
    revision: NotRequired[str]
    """The commit of its repository on the hub."""


class ByValue:
    """Base class of frozen dataclasses (with ``eq=False``) whose fields may be arrays, tensors or mappings.

    Two objects of the same class are equal if all compared fields are equal. NaN equals NaN, and arrays of different
    dtypes differ.
    """

    def __eq__(self, value: object) -> bool:
        return type(self) is type(value) and value_key(self) == value_key(value)

    def __hash__(self) -> int:
        return hash(value_key(self))


def value_key(value: object) -> Hashable:
    """Return a hashable key that is equal for equal values.

    >>> value_key({"a": [1.0]}) == value_key({"a": [1.0]})
    True
    """
    if isinstance(value, Tensor):
        return value_key(value.detach().cpu().numpy())
    if isinstance(value, np.ndarray):
        # bytes can be hashed, and those of NaN are equal to themselves
        return (str(value.dtype), value.shape, np.ascontiguousarray(value).tobytes())
    if is_dataclass(value) and not isinstance(value, type):
        return (type(value), *(value_key(getattr(value, field.name)) for field in fields(value) if field.compare))
    if isinstance(value, Mapping):
        return frozenset((key, value_key(item)) for key, item in value.items())
    if isinstance(value, list | tuple):
        return tuple(map(value_key, value))
    return value
