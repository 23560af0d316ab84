"""The cosine of the embeddings of both sides, in [-1, 1].

For models with late interaction, which embed each token, it is MaxSim.
"""

from dataclasses import dataclass

from nibt.targets.base import Score, Target
from nibt.types import Embedding, PerExample


@dataclass(frozen=True)
class Cosine(Target):
    """The cosine of the embeddings of both sides; for models with late interaction, MaxSim."""

    def __call__(self, embedding: Embedding, score: Score) -> PerExample:
        return score.similarity(embedding, score.other)


PLUGIN = Cosine
