"""The softmax probability of the pair among others of the other side, such as further captions of an image."""

from dataclasses import dataclass

from nibt.targets.base import Score, Target
from nibt.types import Embedding, PerExample


@dataclass(frozen=True)
class Softmax(Target):
    """The softmax probability of the pair among others."""

    others = "some"

    def __call__(self, embedding: Embedding, score: Score) -> PerExample:
        return (score.scale * score.similarities(embedding)).softmax(-1)[..., 0]


PLUGIN = Softmax
