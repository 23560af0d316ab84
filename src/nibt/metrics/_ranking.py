"""Ranking metrics of scikit-learn, which only this file imports."""

from typing import Literal

import numpy as np


def ranking(name: Literal["average_precision_score", "roc_auc_score"], truth: np.ndarray, scores: np.ndarray) -> float:
    """Compute a ranking metric of scikit-learn; NaN if the labels are all true or all false."""
    from sklearn import metrics

    return float("nan") if truth.all() or not truth.any() else float(getattr(metrics, name)(truth, scores))
