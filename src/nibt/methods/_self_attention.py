"""Attention of vectors of one kind with each other, such as queries with queries, in place of the recorded one."""

import torch
from jaxtyping import Float
from torch import Tensor

from nibt.models._attention import AttentionRecord, Weights

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
