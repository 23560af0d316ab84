"""The model's own logit: its scale times the cosine, plus its bias (SigLIP)."""

from dataclasses import dataclass

from nibt.targets.base import Target, TargetContext, cosine
from nibt.types import Embedding, PerExample, There


@dataclass(frozen=True)
class Logit(Target):
    def __call__(self, here: Embedding, there: There, context: TargetContext) -> PerExample:
        return context.scale * cosine(here, there) + context.bias


PLUGIN = Logit
