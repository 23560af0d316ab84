"""The model's own logit: its scale times the cosine, plus its bias (SigLIP)."""

from dataclasses import dataclass

from typing_extensions import override

from nibt.targets.base import Target, TargetContext, cosine
from nibt.types import Embedding, PerExample, There


@dataclass(frozen=True)
class Logit(Target):
    @override
    def __call__(self, here: Embedding, there: There, context: TargetContext) -> PerExample:
        return context.scale * cosine(here, there) + context.bias


PLUGIN = Logit
