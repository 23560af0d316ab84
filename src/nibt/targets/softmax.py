"""The probability of this pair among distractors of the other side's kind: captions for an image."""

from dataclasses import dataclass

import torch
from typing_extensions import override

from nibt.targets.base import Target, TargetContext, cosine, to_others
from nibt.types import Embedding, PerExample, There


@dataclass(frozen=True)
class Softmax(Target):
    others = "some"

    @override
    def __call__(self, here: Embedding, there: There, context: TargetContext) -> PerExample:
        cosines = torch.cat([cosine(here, there)[..., None], to_others(here, context)], -1)
        return (context.scale * cosines).softmax(-1)[..., 0]


PLUGIN = Softmax
