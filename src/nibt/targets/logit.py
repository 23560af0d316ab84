"""The logit of the model: its scale times the cosine, plus its bias, which SigLIP has."""

from dataclasses import dataclass

from nibt.targets.base import Score, Target
from nibt.types import Embedding, PerExample


@dataclass(frozen=True)
class Logit(Target):
    """The logit of the model."""

    def __call__(self, embedding: Embedding, score: Score) -> PerExample:
        return score.scale * score.similarity(embedding, score.other) + score.bias


PLUGIN = Logit
