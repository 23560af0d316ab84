"""Chefer through all blocks: generic attention explainability (Chefer et al., ICCV 2021, arXiv 2103.15679).

    R = 1;  R <- R + relu(mean over heads of dS/dA_l * A_l) R  for each block l;  score of token t = R[r, t]
    textbook: the mean over heads of relu(dS/dA_l * A_l), as it was published

A head that pools by attention reads R through its own map.
"""

from dataclasses import dataclass
from typing import ClassVar

from typing_extensions import override

from nibt.core.side import Side
from nibt.errors import BadOption
from nibt.methods._attention import AttentionMethod, gradients
from nibt.models._attention import Map, Weights
from nibt.types import PerToken


@dataclass(frozen=True)
class GAE(AttentionMethod):
    """``rectified``: what is cut off at zero, the ``mean`` over the heads, or each of the ``heads`` before it."""

    paper = "Chefer et al., ICCV 2021, arXiv 2103.15679"
    cost = "1 + about 3"
    signed = False
    variants: ClassVar = {
        "default": {"image": {}, "text": {}},
        "textbook": {side: {"rectified": "heads"} for side in ("image", "text")},
    }

    rectified: str = "mean"

    def __post_init__(self) -> None:
        if self.rectified not in ("mean", "heads"):
            raise BadOption(f"rectified must be mean or heads (got {self.rectified!r})")

    @override
    def scores(self, side: Side) -> PerToken:
        seen = side.attentions()
        found = gradients(side, seen, [one.weights for one in seen.all])
        return seen.relayed([self._map(one.weights * gradient) for one, gradient in zip(seen.all, found, strict=True)])

    def _map(self, product: Weights) -> Map:
        return product.mean(1).relu() if self.rectified == "mean" else product.relu().mean(1)


PLUGIN = GAE
