"""The cosine with what is special about the other side: its unit embedding minus the mean of a set of its kind.

Embeddings of CLIP-like models lie in a narrow cone, so most of a cosine is common to all pairs; centred, what
is left is what this caption says and others do not.
"""

from dataclasses import dataclass

import torch.nn.functional as F
from typing_extensions import override

from nibt.targets.base import Target, TargetContext, cosine
from nibt.types import Embedding, PerExample, There


@dataclass(frozen=True)
class Centred(Target):
    others = "some"
    shipped_default = "centre"

    @override
    def __call__(self, here: Embedding, there: There, context: TargetContext) -> PerExample:
        assert context.others is not None
        mean = context.others.mean(0) if len(context.others) == 1 else F.normalize(context.others, dim=-1).mean(0)
        return cosine(here, F.normalize(there, dim=-1) - mean)


PLUGIN = Centred
