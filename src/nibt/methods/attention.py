"""Methods of attention weights: of the last attention, as the paper of NIB compares them, or of all blocks."""

from abc import abstractmethod
from dataclasses import dataclass
from typing import Annotated, ClassVar

import torch

from nibt.core.side import Side
from nibt.methods._attention import AttentionMethod, LastBlocks, gradients
from nibt.methods.base import Need, both_sides
from nibt.models._attention import Weights, record_attentions
from nibt.options import Either
from nibt.results.attribution import Attribution
from nibt.types import Hidden, PerToken


class LastAttention(AttentionMethod):
    """Base class of methods that score the weights of the last attention, averaged over the heads."""

    uses_gradients = True
    variants: ClassVar = both_sides(default={}, paper={})

    @abstractmethod
    def key_scores(self, weights: Weights, gradient: Weights) -> Weights:
        """Compute the score of each key, for each query and head, from the weights and their gradient."""

    def scores(self, side: Side) -> PerToken:
        attentions = record_attentions(side.trace, side.tower.depth - 1)
        (gradient,) = gradients(side, attentions, [attentions.last.weights])
        return attentions.read_by_head(self.key_scores(attentions.last.weights, gradient).mean(1))


@dataclass(frozen=True)
class AttentionOrInput(LastAttention):
    """Base class of methods that take the gradient at the last attention or at the tower's input.

    Args:
        at: Where the gradient is taken: ``attention`` (the last one) or ``input`` (the input tokens).
    """

    category = "gradient"
    cost = "1 + about 3 / depth; at the input 2 + about 3"
    variants: ClassVar = both_sides(default={}, paper={}, textbook={"at": "input"})

    at: Annotated[str, Either(("attention", "input"))] = "attention"

    def required(self) -> tuple[Need, ...]:
        return self.needs if self.at == "attention" else ("stem",)

    def cost_formula(self) -> str:
        at_attention, _, at_input = self.cost.partition("; at the input ")
        return at_attention if self.at == "attention" else at_input

    @abstractmethod
    def input_scores(self, state: Hidden, gradient: Hidden) -> PerToken:
        """Compute the score of each input token from the tokens and their gradient."""

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

    $$\text{score}_t = \text{mean}_{\text{heads}} \, \text{relu}(A_{it} \, \partial S / \partial A_{it})$$

    Zhu et al. (ICLR 2025) compare NIB with this form. The published form, which goes through all blocks, is ``gae``.

    Shows:
        To which tokens the last block attends, counting only attention that raises the target.

    Use it when:
        You compare with the table of NIB's paper, or need a cheap map of a transformer.

    Avoid it when:
        You can afford gradients of all blocks: use ``gae``. The scores of both methods have no signs.
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

    $$\text{score}_t = \text{mean}_{\text{heads}} \, A_{it} \, \partial S / \partial A_{it}$$

    Zhu et al. (ICLR 2025) compare NIB with this form, for the last attention $A$. The variant ``textbook`` is for the
    input tokens $x$ (the embeddings of patches with their positions, or of words):

    $$\text{score}_t = \sum_c x_{tc} \, \partial S / \partial x_{tc}$$

    Shows:
        Which tokens raise or lower the target through their weights in the last attention, to first order (attention
        weight times gradient).

    Use it when:
        You need a map with signs for the cost of one gradient, or compare with the table of NIB's paper.

    Avoid it when:
        You need scores that add up, or explain words: on 1,000 scenes, its AUC of words is 0.74 (``nib``: 0.98).
        The scores of the variant ``textbook`` are almost 0 on towers that normalize their input tokens, such as CLIP's
        image tower, since these ignore the length of a token.
    """

    paper = "Hesse et al., NeurIPS 2021, arXiv 2111.07668"

    def key_scores(self, weights: Weights, gradient: Weights) -> Weights:
        return gradient * weights

    def input_scores(self, state: Hidden, gradient: Hidden) -> PerToken:
        return (state * gradient).sum(-1)


@dataclass(frozen=True)
class SaliencyMap(AttentionOrInput, name="saliency_map"):
    r"""Saliency maps: absolute gradients (Simonyan et al., ICLR 2014 workshop, arXiv 1312.6034).

    $$\text{score}_t = \text{mean}_{\text{heads}} \, |\partial S / \partial A_{it}|$$

    Zhu et al. (ICLR 2025) compare NIB with this form, for the last attention $A$. Masked weights, which are 0, get no
    score. The variant ``textbook`` is for the input tokens $x$ (the embeddings of patches with their positions, or of
    words):

    $$\text{score}_t = \max_c |\partial S / \partial x_{tc}|$$

    Shows:
        To which tokens the target is sensitive, but not whether they raise or lower it.

    Use it when:
        You want to rank words at the cost of one gradient: on 1,000 scenes, the variant ``textbook`` has an AUC of
        words of 0.99.

    Avoid it when:
        You explain images, or words with the default variant: on 1,000 scenes with one view, its pointing is 0.39
        (``gae``: 0.86), and its AUC of words is 0.19 (chance is 0.5).
    """

    paper = "Simonyan et al., ICLR 2014 workshop, arXiv 1312.6034"
    signed = False

    def key_scores(self, weights: Weights, gradient: Weights) -> Weights:
        return gradient.abs() * (weights > 0)

    def input_scores(self, state: Hidden, gradient: Hidden) -> PerToken:
        return gradient.abs().amax(-1)


@dataclass(frozen=True)
class GAE(LastBlocks, name="gae"):
    r"""Generic attention explainability (Chefer et al., ICCV 2021, arXiv 2103.15679).

    $$R \leftarrow R + \text{relu}(\text{mean}_{\text{heads}} \, A_l \odot \partial S / \partial A_l) \, R$$

    $$\text{score}_t = R_{it}$$

    $R$ starts as the identity matrix, and each block $l$ changes it. The variant ``textbook`` is as published: it sets
    negative products to 0 in each head, before the mean. For a head that pools by attention, $R$ is multiplied by the
    map of the pooling. With ``blocks``, only the last blocks change $R$.

    Shows:
        To which patches and words the tower attends in all blocks, counting only attention that raises the target.

    Use it when:
        You want to rank pixels: with 3 views, it ranks them as well as ``nib`` on ``scenes``, for 12 forward passes
        instead of 7.

    Avoid it when:
        You need signs or scores that add up. On 300 scenes, 95 % of its scores are on special tokens, and its maps of
        an image for the right caption and for an unrelated caption are similar (rank correlation 0.67; with ``nib``,
        below 0).

    Args:
        rectified: Where negative values are set to 0: in the ``mean`` over the heads, or in each of the ``heads``.
    """

    paper = "Chefer et al., ICCV 2021, arXiv 2103.15679"
    category = "attention"
    cost = "1 + about 3 x blocks / depth"
    signed = False
    uses_gradients = True
    variants: ClassVar = both_sides(default={}, textbook={"rectified": "heads"})

    rectified: Annotated[str, Either(("mean", "heads"))] = "mean"

    def scores(self, side: Side) -> PerToken:
        attentions = record_attentions(side.trace, self.first_layer(side.tower.depth))
        weights = [record.weights for record in attentions.all]
        products = zip(weights, gradients(side, attentions, weights), strict=True)
        maps = (weight * gradient for weight, gradient in products)
        if self.rectified == "heads":
            maps = map(torch.relu, maps)
        return attentions.propagate([product.mean(1).relu() for product in maps])


@dataclass(frozen=True)
class LeGrad(LastBlocks, name="legrad"):
    r"""LeGrad: gradients of each block's attention (Bousselham et al., ICCV 2025, arXiv 2404.03214).

    $$\text{score}_t = \sum_l \text{mean}_{\text{heads}, q} \, \text{relu}(\partial s_l / \partial A_{l,qt})$$

    $s_l$ is the target if the model's head reads only the mean of the tokens that leave block $l$; $q$ runs over the
    queries. The mean is over the tokens on which the embedding depends, without padding. By default, $l$ runs over all
    blocks.

    Shows:
        For which patches more attention, in any block, would raise the target.

    Use it when:
        You explain images with a transformer and want to rank pixels well: on 1,000 scenes with one view, its AP is
        0.75 [0.74, 0.76], and so is that of ``gae``.

    Avoid it when:
        You explain words (on 1,000 scenes, its AUC of words is 0.41; chance is 0.5), need signs, or want to add up the
        scores of a region: its maps are positive nearly everywhere.
    """

    paper = "Bousselham et al., ICCV 2025, arXiv 2404.03214"
    category = "attention"
    cost = "1 + about 3 x blocks / depth"
    signed = False
    uses_gradients = True

    def scores(self, side: Side) -> PerToken:
        attentions = record_attentions(side.trace, self.first_layer(side.tower.depth))
        tokens = attentions.propagate([record.weights.mean(1) for record in attentions.all]) > 0
        total = torch.zeros_like(tokens, dtype=attentions.embedding.dtype)
        for block, stream in zip(attentions.blocks, attentions.streams, strict=True):
            with torch.enable_grad():
                # every row is the mean of the tokens of the block, so that any head reads the mean
                weights = tokens.to(stream)[..., None]
                mean = (stream * weights).sum(1, keepdim=True) / weights.sum(1, keepdim=True).clamp_min(1)
                score = side.score(side.cut(side.tower.depth).rest(mean.expand_as(stream)[None]))
                (gradient,) = torch.autograd.grad(score.sum(), block.weights)
            positive = (gradient * (block.weights > 0)).relu().mean(1)
            total += positive.sum(1) / tokens.sum(-1, keepdim=True).clamp_min(1)

        return total


@dataclass(frozen=True)
class Rollout(AttentionMethod, name="rollout"):
    r"""Attention rollout, a control (Abnar and Zuidema, ACL 2020, arXiv 2005.00928).

    $$\text{score}_t = \left(\prod_l \frac{1}{2} (1 + \text{mean}_{\text{heads}} \, A_l)\right)_{it}$$

    It uses only attention weights, so the map of an image is the same for every caption. Its metrics show how good a
    map can be that ignores the caption.

    Shows:
        To which tokens the tower attends, independently of the other input.

    Use it when:
        You need a control that uses the model but not the pair.

    Avoid it when:
        You want an explanation of a pair: the map is the same for every caption.
    """

    paper = "Abnar and Zuidema, ACL 2020, arXiv 2005.00928"
    category = "attention"
    cost = "2"
    signed = False
    uses_gradients = True  # to find the row that the head reads
    reads_score = False

    def scores(self, side: Side) -> PerToken:
        attentions = record_attentions(side.trace)
        return attentions.propagate([record.weights.mean(1) for record in attentions.all]) / 2 ** len(attentions.blocks)
