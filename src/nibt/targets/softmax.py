"""The softmax probability of the pair among others of the other side, such as further captions of an image."""

from dataclasses import dataclass

import torch
from typing_extensions import override

from nibt.targets.base import Target, TargetContext, cosine, to_others
from nibt.types import Embedding, OtherEmbedding, PerExample


@dataclass(frozen=True)
class Softmax(Target):
    """The softmax probability of the pair among others."""

    others = "some"

    @override
    def __call__(self, embedding: Embedding, other: OtherEmbedding, context: TargetContext) -> PerExample:
        cosines = torch.cat([cosine(embedding, other)[..., None], to_others(embedding, context)], -1)
        return (context.scale * cosines).softmax(-1)[..., 0]


PLUGIN = Softmax
