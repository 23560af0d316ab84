"""FastIG (Hesse et al., NeurIPS 2021, arXiv 2111.07668): one step of integrated gradients, state times gradient.

    score of token t = mean over heads of (dS/dA * A)[r, t],  the last attention
    textbook:          sum_c x_tc (dS/dx)_tc,                 x the first tokens

The first is how Zhu et al. (ICLR 2025) compare it.
"""

from dataclasses import dataclass
from typing import ClassVar

from typing_extensions import override

from nibt.methods._attention import AttentionOrInput
from nibt.models._attention import Weights
from nibt.types import Hidden, PerToken


@dataclass(frozen=True)
class FastIG(AttentionOrInput):
    paper = "Hesse et al., NeurIPS 2021, arXiv 2111.07668"
    cost = "1 + about 3 / depth; at the input 2 + about 3"
    variants: ClassVar = {
        **{name: {"image": {}, "text": {}} for name in ("default", "paper")},
        "textbook": {side: {"at": "input"} for side in ("image", "text")},
    }

    @override
    def weighed(self, weights: Weights, gradient: Weights) -> Weights:
        return gradient * weights

    @override
    def of_input(self, state: Hidden, gradient: Hidden) -> PerToken:
        return (state * gradient).sum(-1)


PLUGIN = FastIG
