"""Chefer, Gur and Wolf (ICCV 2021, arXiv 2103.15679) on the last attention, as Zhu et al. (ICLR 2025) compare it.

    score of token t = mean over heads of relu(dS/dA * A)[r, t]

The same through all blocks, as it was published, is ``gae``.
"""

from dataclasses import dataclass
from typing import ClassVar

from typing_extensions import override

from nibt.methods._attention import LastAttention
from nibt.models._attention import Weights


@dataclass(frozen=True)
class Chefer(LastAttention):
    paper = "Chefer et al., ICCV 2021, arXiv 2103.15679"
    cost = "1 + about 3 / depth"
    signed = False
    variants: ClassVar = {name: {"image": {}, "text": {}} for name in ("default", "paper")}

    @override
    def weighed(self, weights: Weights, gradient: Weights) -> Weights:
        return (gradient * weights).relu()


PLUGIN = Chefer
