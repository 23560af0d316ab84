"""The softmax probability of the pair among others of the other side, such as further captions of an image."""

from dataclasses import dataclass

import torch
from typing_extensions import override

from nibt.targets.base import Target, TargetContext
from nibt.types import Embedding, OtherEmbedding, PerExample


@dataclass(frozen=True)
class Softmax(Target):
    """The softmax probability of the pair among others."""

    others = "some"

    @override
    def __call__(self, embedding: Embedding, other: OtherEmbedding, context: TargetContext) -> PerExample:
        similarities = torch.cat([context.similarity(embedding, other)[..., None], context.to_others(embedding)], -1)
        return (context.scale * similarities).softmax(-1)[..., 0]


PLUGIN = Softmax
