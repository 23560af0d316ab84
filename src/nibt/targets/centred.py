"""The cosine with the other side's unit embedding minus the mean of a set of unit embeddings.

Embeddings of CLIP-like models lie in a narrow cone, so most of a cosine is common to all pairs. Centering leaves the
part that is specific to this caption or image.
"""

from dataclasses import dataclass

import torch.nn.functional as F
from typing_extensions import override

from nibt.targets.base import Target, TargetContext
from nibt.types import Embedding, OtherEmbedding, PerExample


@dataclass(frozen=True)
class Centred(Target):
    """The cosine with the centered embedding of the other side."""

    others = "some"
    averages = True
    shipped_default = "centre"

    @override
    def __call__(self, embedding: Embedding, other: OtherEmbedding, context: TargetContext) -> PerExample:
        assert context.others is not None
        mean = context.others.mean(0) if len(context.others) == 1 else F.normalize(context.others, dim=-1).mean(0)
        return context.similarity(embedding, F.normalize(other, dim=-1) - mean)


PLUGIN = Centred
