"""Spearman's rank correlation, and the ranking metrics of scikit-learn."""

from typing import Literal

import numpy as np
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


def ranking(name: Literal["average_precision_score", "roc_auc_score"], truth: np.ndarray, scores: np.ndarray) -> float:
    """Compute a ranking metric of scikit-learn; NaN if the labels are all true or all false."""
    from sklearn import metrics

    return float("nan") if truth.all() or not truth.any() else float(getattr(metrics, name)(truth, scores))
