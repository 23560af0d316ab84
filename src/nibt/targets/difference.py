"""The cosine with this minus the cosine with one other of its kind: why this rather than that?"""

from dataclasses import dataclass

from typing_extensions import override

from nibt.targets.base import Target, TargetContext, cosine, to_others
from nibt.types import Embedding, PerExample, There


@dataclass(frozen=True)
class Difference(Target):
    others = "one"

    @override
    def __call__(self, here: Embedding, there: There, context: TargetContext) -> PerExample:
        return cosine(here, there) - to_others(here, context)[..., 0]


PLUGIN = Difference
