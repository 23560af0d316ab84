"""Saliency maps (Simonyan et al., 2014, arXiv 1312.6034): how large a gradient is, without its sign.

    score of token t = mean over heads of abs(dS/dA)[r, t],  the last attention
    textbook:          max_c abs(dS/dx)_tc,                  x the first tokens

The first is how Zhu et al. (ICLR 2025) compare it. A weight that a mask holds at zero has no score.
"""

from dataclasses import dataclass
from typing import ClassVar

from typing_extensions import override

from nibt.methods._attention import AttentionOrInput
from nibt.models._attention import Weights
from nibt.types import Hidden, PerToken


@dataclass(frozen=True)
class SaliencyMap(AttentionOrInput):
    paper = "Simonyan et al., ICLR 2014 workshop, arXiv 1312.6034"
    cost = "1 + about 3 / depth; at the input 2 + about 3"
    signed = False
    variants: ClassVar = {
        **{name: {"image": {}, "text": {}} for name in ("default", "paper")},
        "textbook": {side: {"at": "input"} for side in ("image", "text")},
    }

    @override
    def weighed(self, weights: Weights, gradient: Weights) -> Weights:
        return gradient.abs() * (weights > 0)

    @override
    def of_input(self, state: Hidden, gradient: Hidden) -> PerToken:
        return gradient.abs().amax(-1)


PLUGIN = SaliencyMap
