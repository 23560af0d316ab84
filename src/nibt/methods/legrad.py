"""LeGrad (Bousselham et al., ICCV 2025, arXiv 2404.03214): how each block's attention forms the answer.

    s_l = the score of the head applied to the mean of the tokens that leave block l
    score of token t = sum over the last L blocks of the mean over heads and queries of relu(ds_l / dA_l)[., t]

The tokens of a block are the rows that the embedding depends on: what fills a caption up is none.
"""

from dataclasses import dataclass

import torch
from torch import Tensor
from typing_extensions import override

from nibt.core.side import Side
from nibt.errors import BadOption
from nibt.methods._attention import AttentionMethod
from nibt.types import Hidden, PerExample, PerToken


@dataclass(frozen=True)
class LeGrad(AttentionMethod):
    """``blocks``: how many of the last, all by default."""

    paper = "Bousselham et al., ICCV 2025, arXiv 2404.03214"
    cost = "1 + about 3 x blocks / depth"
    signed = False

    blocks: int | None = None

    def __post_init__(self) -> None:
        if self.blocks is not None and self.blocks < 1:
            raise BadOption(f"blocks must be at least 1 (got {self.blocks})")

    @override
    def scores(self, side: Side) -> PerToken:
        depth = side.tower.depth
        seen = side.attentions(depth - min(self.blocks or depth, depth))
        tokens = seen.relayed([one.weights.mean(1) for one in seen.all]) > 0
        total = torch.zeros_like(tokens, dtype=seen.embedding.dtype)
        for block, stream in zip(seen.blocks, seen.streams, strict=True):
            with torch.enable_grad():
                (gradient,) = torch.autograd.grad(_of_mean(side, stream, tokens).sum(), block.weights)
            positive = (gradient * (block.weights > 0)).relu().mean(1)
            total += positive.sum(1) / tokens.sum(-1, keepdim=True).clamp_min(1)
        return total


def _of_mean(side: Side, stream: Hidden, tokens: Tensor) -> PerExample:
    """The score of a stream whose rows are all the mean of its tokens: so each head reads the mean."""
    weights = tokens.to(stream)[..., None]
    mean = (stream * weights).sum(1, keepdim=True) / weights.sum(1, keepdim=True).clamp_min(1)
    return side.score(side.cut(side.tower.depth).rest(mean.expand_as(stream)[None]))[0]


PLUGIN = LeGrad
