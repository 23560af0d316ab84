r"""Chefer's attention relevance on the last attention (Chefer et al., ICCV 2021, arXiv 2103.15679).

$$\text{score}_t = \text{mean}_{\text{heads}} \, \text{relu}(A_{rt} \, \partial S / \partial A_{rt})$$

Zhu et al. (ICLR 2025) compare this form. The published form, which goes through all blocks, is ``gae``.

Answers:
    Which tokens the last attention uses, where more attention raises the score.

Use it when:
    You compare with the table of NIB's paper, or need the cheapest map of a transformer.

Avoid it when:
    You can afford all blocks: use ``gae``. It needs attention, and has no sign.
"""

from dataclasses import dataclass

from nibt.methods._attention import LastAttention
from nibt.models._attention import Weights


@dataclass(frozen=True)
class Chefer(LastAttention):
    """Rectified products of the last attention's weights and gradients."""

    paper = "Chefer et al., ICCV 2021, arXiv 2103.15679"
    category = "attention"
    cost = "1 + about 3 / depth"
    signed = False

    def key_scores(self, weights: Weights, gradient: Weights) -> Weights:
        return (gradient * weights).relu()


PLUGIN = Chefer
