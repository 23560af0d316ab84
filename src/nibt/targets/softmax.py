"""The softmax probability of the pair among others of the other side, such as further captions of an image."""

from dataclasses import dataclass

from typing_extensions import override

from nibt.targets.base import Target, TargetContext
from nibt.types import Embedding, OtherEmbedding, PerExample


@dataclass(frozen=True)
class Softmax(Target):
    """The softmax probability of the pair among others."""

    others = "some"

    @override
    def __call__(self, embedding: Embedding, other: OtherEmbedding, context: TargetContext) -> PerExample:
        return (context.scale * context.similarities(embedding, other)).softmax(-1)[..., 0]


PLUGIN = Softmax
