"""Type aliases for tensors with named dimensions."""

from typing import Literal, TypeAlias

from jaxtyping import Float
from torch import Tensor

Modality: TypeAlias = Literal["image", "text"]

Hidden: TypeAlias = Float[Tensor, "batch token width"]
States: TypeAlias = Float[Tensor, "node batch token width"]  # the states of each example at the nodes of a path
Embedding: TypeAlias = Float[Tensor, "*batch dim"]
OtherEmbedding: TypeAlias = Float[Tensor, "*#batch dim"]  # of the other side; broadcast over the states of this side
OneRow: TypeAlias = Float[Tensor, "batch 1 width"]
PerToken: TypeAlias = Float[Tensor, "batch token"]  # all tokens, special tokens included
PerUnit: TypeAlias = Float[Tensor, "*batch unit"]  # patches, or the tokens of a caption
PerExample: TypeAlias = Float[Tensor, "*batch"]
