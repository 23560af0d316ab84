"""Scores as a ranking of what is true and what is not: the only file with scikit-learn."""

from typing import Literal

import numpy as np

from nibt.errors import Unsupported


def ranking(name: Literal["average_precision_score", "roc_auc_score"], truth: np.ndarray, scores: np.ndarray) -> float:
    """scikit-learn's number, or NaN where all is true, or nothing.

    Raises:
        Unsupported: Scikit-learn is not installed.

    """
    try:
        from sklearn import metrics
    except ImportError as error:
        raise Unsupported("this metric needs scikit-learn: pip install 'nibt[metrics]'") from error
    return float("nan") if truth.all() or not truth.any() else float(getattr(metrics, name)(truth, scores))
