"""Spearman's rank correlation of tensors."""

import torch
from jaxtyping import Float
from torch import Tensor


def rank_correlation(first: Float[Tensor, " entry"], second: Float[Tensor, " entry"]) -> float:
    """Return Spearman's correlation, where equal entries have their mean rank; NaN if either tensor is constant."""
    ranks, other_ranks = _centered_ranks(first), _centered_ranks(second)
    lengths = float(ranks.norm() * other_ranks.norm())
    return float(ranks @ other_ranks) / lengths if lengths else torch.nan


def _centered_ranks(values: Float[Tensor, " entry"]) -> Float[Tensor, " entry"]:
    """Return ranks minus their mean."""
    _, inverse, counts = values.double().unique(return_inverse=True, return_counts=True)
    ranks = (counts.cumsum(0) - (counts.double() - 1) / 2)[inverse]
    return ranks - ranks.mean()
