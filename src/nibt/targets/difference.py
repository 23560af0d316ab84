"""The cosine with the other side minus the cosine with one alternative to it.

It explains why a caption matches the image better than a second caption does, or an image than a second image.
"""

from dataclasses import dataclass

from nibt.targets.base import Score, Target
from nibt.types import Embedding, PerExample


@dataclass(frozen=True)
class Difference(Target):
    """The cosine with the other side minus the cosine with one alternative."""

    others = "one"

    def __call__(self, embedding: Embedding, score: Score) -> PerExample:
        return score.similarity(embedding, score.other) - score.to_others(embedding)[..., 0]


PLUGIN = Difference
