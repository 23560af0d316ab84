"""The cosine of the embeddings of both sides, in [-1, 1]."""

from dataclasses import dataclass

from typing_extensions import override

from nibt.targets.base import Target, TargetContext, cosine
from nibt.types import Embedding, OtherEmbedding, PerExample


@dataclass(frozen=True)
class Cosine(Target):
    """The cosine of the embeddings of both sides."""

    @override
    def __call__(self, embedding: Embedding, other: OtherEmbedding, context: TargetContext) -> PerExample:
        return cosine(embedding, other)


PLUGIN = Cosine
