"""How well the two sides agree: the cosine of their embeddings, in [-1, 1]."""

from dataclasses import dataclass

from typing_extensions import override

from nibt.targets.base import Target, TargetContext, cosine
from nibt.types import Embedding, PerExample, There


@dataclass(frozen=True)
class Cosine(Target):
    @override
    def __call__(self, here: Embedding, there: There, context: TargetContext) -> PerExample:
        return cosine(here, there)


PLUGIN = Cosine
