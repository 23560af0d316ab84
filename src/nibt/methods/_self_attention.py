"""Attention of vectors of one kind with each other, such as queries with queries, in place of the recorded one."""

from abc import abstractmethod
from dataclasses import dataclass
from functools import partial
from typing import ClassVar

import torch
from jaxtyping import Float
from torch import Tensor

from nibt.core.side import Side
from nibt.methods._attention import AttentionMethod
from nibt.methods._rows import score_rows
from nibt.models._attention import AttentionRecord, Weights
from nibt.types import PerToken

Rows = Float[Tensor, "batch head row channel"]


@dataclass(frozen=True)
class LastBlockMethod(AttentionMethod):
    """Base class of methods that score each row alone, after a last block with another attention."""

    category = "attention"
    cost = "1 + about 1 / depth"
    bare: ClassVar[bool] = False
    """Whether the residual connection and the feed-forward network of the block are left out."""

    @abstractmethod
    def attend(self, side: Side, record: AttentionRecord) -> Tensor:
        """Compute the output of the attention."""

    def scores(self, side: Side) -> PerToken:
        replayed = side.trace.with_attention(side.tower.depth - 1, partial(self.attend, side))
        return score_rows(side, replayed.added if self.bare else replayed.stream, side.score)


def self_weights(record: AttentionRecord, vectors: Rows, prior: Tensor | float = 0.0) -> Weights:
    """Compute the weights of the attention of vectors with each other, masked as in the block, at least in float32."""
    vectors = vectors.to(torch.promote_types(vectors.dtype, torch.float32))  # their products are large
    logits = vectors @ vectors.mT * vectors.shape[-1] ** -0.5 + prior
    masked = (record.weights == 0).all(1, keepdim=True)
    return logits.masked_fill(masked, torch.finfo(logits.dtype).min).softmax(-1)


def weighted_values(record: AttentionRecord, weights: Weights) -> Rows:
    """Compute the output of an attention with other weights."""
    return (weights @ record.value.to(weights)).to(record.value)
