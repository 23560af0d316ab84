r"""LeGrad: gradients of each block's attention (Bousselham et al., ICCV 2025, arXiv 2404.03214).

$$\text{score}_t = \sum_l \text{mean}_{\text{heads}, q} \, \text{relu}(\partial s_l / \partial A_{l,qt})$$

$s_l$ is the score of the head applied to the mean of the tokens that leave block $l$, one of the last blocks; $q$ runs
over the queries. The tokens of a block are the rows that the embedding depends on; padding is excluded.

Answers:
    For which patches more attention, in any block, would raise the score.

Use it when:
    You explain images with a transformer and want a good order of the pixels.

Avoid it when:
    You explain words (on ``scenes`` it is no better than chance there), need a sign, or compare the mass of the map:
    its maps are positive nearly everywhere.
"""

from dataclasses import dataclass

import torch

from nibt.core.side import Side
from nibt.methods._attention import LastBlocks
from nibt.types import PerToken


@dataclass(frozen=True)
class LeGrad(LastBlocks):
    """Rectified gradients of the attention weights, summed over blocks."""

    paper = "Bousselham et al., ICCV 2025, arXiv 2404.03214"
    category = "attention"
    cost = "1 + about 3 x blocks / depth"
    signed = False

    def scores(self, side: Side) -> PerToken:
        attentions = side.attentions(self.first_layer(side.tower.depth))
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


PLUGIN = LeGrad
