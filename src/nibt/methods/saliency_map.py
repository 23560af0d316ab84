r"""Saliency maps: absolute gradients (Simonyan et al., ICLR 2014 workshop, arXiv 1312.6034).

$$\text{score}_t = \text{mean}_{\text{heads}} \, |\partial S / \partial A_{rt}|$$

Zhu et al. (ICLR 2025) compare this form, for the last attention $A$. Masked weights, which are 0, get no score. The
variant ``textbook`` is for the first tokens $x$:

$$\text{score}_t = \max_c |\partial S / \partial x_{tc}|$$

Answers:
    To which tokens the score is sensitive, without direction.

Use it when:
    You want the order of words for one gradient: the variant ``textbook`` does this well on ``scenes``.

Avoid it when:
    You explain images with the default: on ``scenes`` it is worse than a random map in deletion and insertion.
"""

from dataclasses import dataclass

from nibt.methods._attention import AttentionOrInput
from nibt.models._attention import Weights
from nibt.types import Hidden, PerToken


@dataclass(frozen=True)
class SaliencyMap(AttentionOrInput):
    """Absolute values of the gradient."""

    paper = "Simonyan et al., ICLR 2014 workshop, arXiv 1312.6034"
    signed = False

    def key_scores(self, weights: Weights, gradient: Weights) -> Weights:
        return gradient.abs() * (weights > 0)

    def input_scores(self, state: Hidden, gradient: Hidden) -> PerToken:
        return gradient.abs().amax(-1)


PLUGIN = SaliencyMap
