"""The cosine with the other side's unit embedding minus the mean of a set of unit embeddings.

Embeddings of CLIP-like models lie in a narrow cone, so most of a cosine is common to all pairs. Centering leaves the
part that is specific to this caption or image.
"""

from dataclasses import dataclass

import torch.nn.functional as F

from nibt.targets.base import Score, Target
from nibt.types import Embedding, PerExample


@dataclass(frozen=True)
class Centered(Target):
    """The cosine with the centered embedding of the other side."""

    others = "some"
    averages = True
    shipped_default = "centre"

    def __call__(self, embedding: Embedding, score: Score) -> PerExample:
        assert score.others is not None
        assert score.other is not None
        mean = score.others.mean(0) if len(score.others) == 1 else F.normalize(score.others, dim=-1).mean(0)
        return score.similarity(embedding, F.normalize(score.other, dim=-1) - mean)


PLUGIN = Centered
