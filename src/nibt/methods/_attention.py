"""Base classes of methods that score each row of a tower from its recorded attentions, or replace the last of them."""

from abc import abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import torch
from jaxtyping import Float
from torch import Tensor

from nibt.core.side import WITHOUT_GRAPH, Side, chunks
from nibt.methods.base import Method
from nibt.models._attention import AttentionRecord, Attentions, Weights
from nibt.options import Blocks
from nibt.results.attribution import Attribution
from nibt.types import Embedding, Hidden, PerExample, PerToken


class AttentionMethod(Method):
    """Base class of methods that score every row of the hidden state; rows without a unit are dropped afterwards."""

    needs = ("attention",)

    @abstractmethod
    def scores(self, side: Side) -> PerToken:
        """Compute the score of each row."""

    def attribute(self, side: Side) -> Attribution:
        self.check(side.tower)
        return Attribution.of_rows(self.scores(side).detach(), side.units)


@dataclass(frozen=True)
class LastBlocks(AttentionMethod):
    """Base class of methods that read the attentions of the last blocks.

    Args:
        blocks: The number of last blocks that are read. None reads all.
    """

    blocks: Blocks | None = field(default=None, kw_only=True)

    def first_layer(self, depth: int) -> int:
        """Return the layer that enters the first block that is read, in a tower of ``depth`` blocks."""
        return depth - min(self.blocks or depth, depth)


def gradients(side: Side, attentions: Attentions, at: Sequence[Tensor]) -> tuple[Tensor, ...]:
    """Compute the gradients of the score with respect to recorded tensors ``at``."""
    with torch.enable_grad():
        return torch.autograd.grad(side.score(attentions.embedding).sum(), at)


Rows = Float[Tensor, "batch head row channel"]


def self_weights(record: AttentionRecord, vectors: Rows, prior: Tensor | float = 0.0) -> Weights:
    """Compute the weights of the attention of vectors with each other, masked as in the block, at least in float32."""
    vectors = vectors.to(torch.promote_types(vectors.dtype, torch.float32))  # their products are large
    logits = vectors @ vectors.mT * vectors.shape[-1] ** -0.5 + prior
    masked = (record.weights == 0).all(1, keepdim=True)
    return logits.masked_fill(masked, torch.finfo(logits.dtype).min).softmax(-1)


def weighted_values(record: AttentionRecord, weights: Weights) -> Rows:
    """Compute the output of an attention with other weights."""
    return (weights @ record.value.to(weights)).to(record.value)


def score_rows(side: Side, stream: Hidden, score: Callable[[Embedding], PerExample]) -> PerToken:
    """Compute the scores of all rows of a hidden state that enters the head; those of padding are 0."""
    rest = side.cut(side.tower.depth).rest
    scores = []
    with torch.no_grad():
        if "vectors" in side.tower.offers:  # late interaction: the head embeds each row alone
            return score_vectors(rest(stream[None])[0], score)
        for chunk in chunks(stream.shape[1], stream, WITHOUT_GRAPH):
            alone = stream[:, chunk].transpose(0, 1)[:, :, None].expand(-1, -1, stream.shape[1], -1)
            scores.append(score(rest(alone)))

    return torch.cat(scores).T.masked_fill(~side.tower.valid_tokens(side.inputs, stream), 0.0)


def score_vectors(vectors: Embedding, score: Callable[[Embedding], PerExample]) -> PerToken:
    """Compute the score that each vector of late interaction has alone; those of padding are 0."""
    alone = vectors.movedim(1, 0).unsqueeze(2)  # (vector, batch, 1, dim)
    return score(alone).movedim(0, 1).masked_fill(vectors.square().sum(-1) == 0, 0.0)
