r"""FastIG: integrated gradients in one step (Hesse et al., NeurIPS 2021, arXiv 2111.07668).

$$\text{score}_t = \text{mean}_{\text{heads}} \, A_{rt} \, \partial S / \partial A_{rt}$$

Zhu et al. (ICLR 2025) compare this form, for the last attention $A$. The variant ``textbook`` is for the first tokens
$x$:

$$\text{score}_t = \sum_c x_{tc} \, \partial S / \partial x_{tc}$$

Answers:
    Which tokens of the last attention raise or lower the score, to first order.

Use it when:
    You need a signed map for one gradient, or compare with the table of NIB's paper.

Avoid it when:
    You need sums or words: on ``scenes`` it separates the naming words worse than ``nib``. The variant ``textbook``
    is 0, up to rounding, on towers that normalize their first tokens, such as CLIP's image tower.
"""

from dataclasses import dataclass

from nibt.methods._attention import AttentionOrInput
from nibt.models._attention import Weights
from nibt.types import Hidden, PerToken


@dataclass(frozen=True)
class FastIG(AttentionOrInput):
    """The state times its gradient."""

    paper = "Hesse et al., NeurIPS 2021, arXiv 2111.07668"

    def key_scores(self, weights: Weights, gradient: Weights) -> Weights:
        return gradient * weights

    def input_scores(self, state: Hidden, gradient: Hidden) -> PerToken:
        return (state * gradient).sum(-1)


PLUGIN = FastIG
