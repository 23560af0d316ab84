"""How a model compares the embeddings of both sides: by the cosine of two vectors, or by late interaction.

Late interaction (Khattab and Zaharia, SIGIR 2020, arXiv 2004.12832; ColPali, arXiv 2407.01449) keeps a vector of unit
length for each token. The similarity is MaxSim: the sum over the vectors of the query of the largest cosine with a
vector of the document.
"""

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import ClassVar

import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from nibt.types import Embedding, OtherEmbedding, PerExample

Others = Float[Tensor, "other *item"]
"""Embeddings of several items: (other, dim), or (other, vector, dim)."""


class Similarity(ABC):
    """A similarity of two embeddings, seen from one of the two sides, whose items have so many dimensions."""

    name: ClassVar[str]
    item_ndim: ClassVar[int]

    @abstractmethod
    def __call__(self, embedding: Embedding, partner: OtherEmbedding) -> PerExample:
        """Compare embeddings with those of the other side, with broadcasting over the dimensions before the item's."""

    @abstractmethod
    def to_each(self, embedding: Embedding, others: Others) -> Float[Tensor, "*batch other"]:
        """Compare embeddings with each of several embeddings of the other side."""

    @abstractmethod
    def swapped(self) -> "Similarity":
        """Return the same similarity, seen from the other side."""


def cosine(embedding: Embedding, partner: OtherEmbedding) -> PerExample:
    """Compute the cosine of embeddings, with broadcasting."""
    return (F.normalize(embedding, dim=-1) * F.normalize(partner, dim=-1)).sum(-1)


class CosineSimilarity(Similarity):
    """The cosine of two vectors, in [-1, 1]."""

    name: ClassVar[str] = "cosine"
    item_ndim: ClassVar[int] = 1

    def __call__(self, embedding: Embedding, partner: OtherEmbedding) -> PerExample:
        return cosine(embedding, partner)

    def to_each(self, embedding: Embedding, others: Others) -> Float[Tensor, "*batch other"]:
        return F.normalize(embedding, dim=-1) @ F.normalize(others, dim=-1).T

    def swapped(self) -> "CosineSimilarity":
        return self


@dataclass(frozen=True)
class MaxSim(Similarity):
    """MaxSim of vectors, of which zeros are padding; ``own_is_query`` is whether this side is the query."""

    own_is_query: bool = False
    name: ClassVar[str] = "max_sim"
    item_ndim: ClassVar[int] = 2

    def __call__(self, embedding: Embedding, partner: OtherEmbedding) -> PerExample:
        """Compute MaxSim of sets of unit vectors: (..., vector, dim)."""
        query, document = (embedding, partner) if self.own_is_query else (partner, embedding)
        cosines = query @ document.mT
        padding = document.detach().square().sum(-1) == 0
        if padding.any():
            cosines = cosines.masked_fill(padding[..., None, :], float("-inf"))
        largest = cosines.amax(-1)
        return largest.masked_fill(query.detach().square().sum(-1) == 0, 0.0).sum(-1)

    def to_each(self, embedding: Embedding, others: Others) -> Float[Tensor, "*batch other"]:
        return self(embedding.unsqueeze(-3), others)

    def swapped(self) -> "MaxSim":
        return MaxSim(not self.own_is_query)
