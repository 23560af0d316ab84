"""The shape words of this library: one alias for each kind of tensor, used in every signature."""

from typing import Literal, TypeAlias

from jaxtyping import Float
from torch import Tensor

Modality: TypeAlias = Literal["image", "text"]

Hidden: TypeAlias = Float[Tensor, "batch token width"]
States: TypeAlias = Float[Tensor, "node batch token width"]  # several states of each example, on one path
Embedding: TypeAlias = Float[Tensor, "*batch dim"]
OtherEmbedding: TypeAlias = Float[Tensor, "*#batch dim"]  # of the other side, broadcast over states of this side
OneRow: TypeAlias = Float[Tensor, "batch 1 width"]
PerToken: TypeAlias = Float[Tensor, "batch token"]  # every row of the stream, class token included
PerUnit: TypeAlias = Float[Tensor, "*batch unit"]  # only what is explained: a patch, a caption token
PerExample: TypeAlias = Float[Tensor, "*batch"]
