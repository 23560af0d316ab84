"""Attention rollout (Abnar and Zuidema, ACL 2020, arXiv 2005.00928).

    score of token t = (product over blocks l of (mean over heads of A_l + 1) / 2)[r, t]

It knows nothing of the other side: a map of it is the same for every caption. Offered as what must lose.
"""

from dataclasses import dataclass

from typing_extensions import override

from nibt.core.side import Side
from nibt.methods._attention import AttentionMethod
from nibt.types import PerToken


@dataclass(frozen=True)
class Rollout(AttentionMethod):
    paper = "Abnar and Zuidema, ACL 2020, arXiv 2005.00928"
    cost = "2"
    signed = False

    @override
    def scores(self, side: Side) -> PerToken:
        seen = side.attentions()
        return seen.relayed([one.weights.mean(1) for one in seen.all]) / 2 ** len(seen.blocks)


PLUGIN = Rollout
