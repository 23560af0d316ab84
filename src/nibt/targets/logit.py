"""The logit of the model: its scale times the cosine, plus its bias, which SigLIP has."""

from dataclasses import dataclass

from typing_extensions import override

from nibt.targets.base import Target, TargetContext
from nibt.types import Embedding, OtherEmbedding, PerExample


@dataclass(frozen=True)
class Logit(Target):
    """The logit of the model."""

    @override
    def __call__(self, embedding: Embedding, other: OtherEmbedding, context: TargetContext) -> PerExample:
        return context.scale * context.similarity(embedding, other) + context.bias


PLUGIN = Logit
