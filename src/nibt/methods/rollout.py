r"""Attention rollout, a control (Abnar and Zuidema, ACL 2020, arXiv 2005.00928).

$$\text{score}_t = \left(\prod_l \frac{1}{2} (1 + \text{mean}_{\text{heads}} \, A_l)\right)_{rt}$$

The map of an image is the same for every caption, since no gradient enters. It is included as a negative control.

Answers:
    Where the attention of the tower goes, whatever the other input says.

Use it when:
    You need a control that uses the model but not the pair.

Avoid it when:
    You want an explanation of a pair: the map is the same for every caption.
"""

from dataclasses import dataclass

from nibt.core.side import Side
from nibt.methods._attention import AttentionMethod
from nibt.types import PerToken


@dataclass(frozen=True)
class Rollout(AttentionMethod):
    """Products of the attention weights of all blocks."""

    paper = "Abnar and Zuidema, ACL 2020, arXiv 2005.00928"
    category = "attention"
    cost = "2"
    signed = False

    def scores(self, side: Side) -> PerToken:
        attentions = side.attentions()
        return attentions.propagate([record.weights.mean(1) for record in attentions.all]) / 2 ** len(attentions.blocks)


PLUGIN = Rollout
