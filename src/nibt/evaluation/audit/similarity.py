"""Similarities of maps: Spearman's rank correlation and SSIM (Wang et al., 2004), as in Adebayo et al. (2018)."""

from importlib import import_module

import numpy as np

_WINDOW = 5


def spearman(first: np.ndarray, second: np.ndarray) -> float:
    """Return Spearman's correlation of two maps: 1 if equal, 0 if one is constant, NaN for fewer than three units."""
    first, second = first.ravel(), second.ravel()
    if first.size < 3:
        return float("nan")
    if np.array_equal(first, second):
        return 1.0
    if not (np.ptp(first) and np.ptp(second)):
        return float(np.ptp(first) == np.ptp(second))
    return float(import_module("scipy.stats").spearmanr(first, second).statistic)


def ssim(first: np.ndarray, second: np.ndarray) -> float:
    """Return the structural similarity of two maps, rescaled to [0, 1], in windows of 5 or 3; NaN below 3 x 3."""
    if min(first.shape) < 3:
        return float("nan")
    window = min(_WINDOW, min(first.shape) - (min(first.shape) + 1) % 2)
    measure = import_module("skimage.metrics").structural_similarity
    return float(measure(_rescaled(first), _rescaled(second), win_size=window, data_range=1.0))


def _rescaled(values: np.ndarray) -> np.ndarray:
    span = np.ptp(values)
    return (values - values.min()) / span if span else np.zeros_like(values)
