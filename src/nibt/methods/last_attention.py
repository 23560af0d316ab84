"""Methods of the last attention, as the paper of NIB compares them, or of the first tokens."""

from abc import abstractmethod
from dataclasses import dataclass
from typing import Annotated, ClassVar

from nibt.core.side import Side
from nibt.methods._attention import AttentionMethod, gradients
from nibt.methods.base import Need
from nibt.models._attention import Weights
from nibt.options import Either
from nibt.results.attribution import Attribution
from nibt.types import Hidden, PerToken


class LastAttention(AttentionMethod):
    """Base class of methods that score the weights of the last attention, averaged over the heads."""

    variants: ClassVar = {name: {"image": {}, "text": {}} for name in ("default", "paper")}

    @abstractmethod
    def key_scores(self, weights: Weights, gradient: Weights) -> Weights:
        """Compute the score of each key, for each query and head, from the weights and their gradient."""

    def scores(self, side: Side) -> PerToken:
        attentions = side.attentions(side.tower.depth - 1)
        (gradient,) = gradients(side, attentions, [attentions.last.weights])
        return attentions.read_by_head(self.key_scores(attentions.last.weights, gradient).mean(1))


@dataclass(frozen=True)
class AttentionOrInput(LastAttention):
    """Base class of methods that take the gradient at the last attention or at the tower's input.

    Args:
        at: Where the gradient is taken: ``attention`` (the last one) or ``input`` (the tower's first tokens).
    """

    category = "gradient"
    cost = "1 + about 3 / depth; at the input 2 + about 3"
    variants: ClassVar = {
        **{name: {"image": {}, "text": {}} for name in ("default", "paper")},
        "textbook": {side: {"at": "input"} for side in ("image", "text")},
    }

    at: Annotated[str, Either(("attention", "input"))] = "attention"

    def required(self) -> tuple[Need, ...]:
        return self.needs if self.at == "attention" else ("stem",)

    def cost_formula(self) -> str:
        at_attention, _, at_input = self.cost.partition("; at the input ")
        return at_attention if self.at == "attention" else at_input

    @abstractmethod
    def input_scores(self, state: Hidden, gradient: Hidden) -> PerToken:
        """Compute the score of each of the first tokens from the tokens and their gradient."""

    def attribute(self, side: Side) -> Attribution:
        if self.at == "attention":
            return super().attribute(side)
        self.check(side.tower)
        stem = side.stem()
        scores = self.input_scores(stem.hidden, side.gradient(stem, stem.hidden[None])[0])
        return Attribution.of_rows(scores, stem.units)


@dataclass(frozen=True)
class Chefer(LastAttention, name="chefer"):
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

    paper = "Chefer et al., ICCV 2021, arXiv 2103.15679"
    category = "attention"
    cost = "1 + about 3 / depth"
    signed = False

    def key_scores(self, weights: Weights, gradient: Weights) -> Weights:
        return (gradient * weights).relu()


@dataclass(frozen=True)
class FastIG(AttentionOrInput, name="fast_ig"):
    r"""FastIG: integrated gradients in one step (Hesse et al., NeurIPS 2021, arXiv 2111.07668).

    $$\text{score}_t = \text{mean}_{\text{heads}} \, A_{rt} \, \partial S / \partial A_{rt}$$

    Zhu et al. (ICLR 2025) compare this form, for the last attention $A$. The variant ``textbook`` is for the first
    tokens $x$:

    $$\text{score}_t = \sum_c x_{tc} \, \partial S / \partial x_{tc}$$

    Answers:
        Which tokens of the last attention raise or lower the score, to first order.

    Use it when:
        You need a signed map for one gradient, or compare with the table of NIB's paper.

    Avoid it when:
        You need sums or words: on ``scenes`` it separates the naming words worse than ``nib``. The variant ``textbook``
        is 0, up to rounding, on towers that normalize their first tokens, such as CLIP's image tower.
    """

    paper = "Hesse et al., NeurIPS 2021, arXiv 2111.07668"

    def key_scores(self, weights: Weights, gradient: Weights) -> Weights:
        return gradient * weights

    def input_scores(self, state: Hidden, gradient: Hidden) -> PerToken:
        return (state * gradient).sum(-1)


@dataclass(frozen=True)
class SaliencyMap(AttentionOrInput, name="saliency_map"):
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

    paper = "Simonyan et al., ICLR 2014 workshop, arXiv 1312.6034"
    signed = False

    def key_scores(self, weights: Weights, gradient: Weights) -> Weights:
        return gradient.abs() * (weights > 0)

    def input_scores(self, state: Hidden, gradient: Hidden) -> PerToken:
        return gradient.abs().amax(-1)
