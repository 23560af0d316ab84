"""Similarities of maps: Spearman's rank correlation and SSIM (Wang et al., 2004), as in Adebayo et al. (2018)."""

from importlib import import_module

import numpy as np

_WINDOW = 5


def spearman(first: np.ndarray, second: np.ndarray) -> float:
    """Return Spearman's rank correlation of two maps of the same shape, in [-1, 1] (``scipy.stats.spearmanr``).

    It is 1 for two equal or two constant maps, 0 if only one is constant, and NaN for fewer than three units.
    """
    first, second = first.ravel(), second.ravel()
    if first.size < 3:
        return float("nan")
    if np.array_equal(first, second):
        return 1.0
    if not (np.ptp(first) and np.ptp(second)):
        return float(np.ptp(first) == np.ptp(second))
    return float(import_module("scipy.stats").spearmanr(first, second).statistic)


def ssim(first: np.ndarray, second: np.ndarray) -> float:
    """Return the structural similarity (SSIM) of two maps, rows x columns, each rescaled to [0, 1] (scikit-image).

    Windows have 5 x 5 patches, or 3 x 3 if the map is smaller. It is NaN for maps smaller than 3 x 3.
    """
    if min(first.shape) < 3:
        return float("nan")
    window = min(_WINDOW, min(first.shape) - (min(first.shape) + 1) % 2)
    measure = import_module("skimage.metrics").structural_similarity
    return float(measure(_rescaled(first), _rescaled(second), win_size=window, data_range=1.0))


def _rescaled(values: np.ndarray) -> np.ndarray:
    span = np.ptp(values)
    return (values - values.min()) / span if span else np.zeros_like(values)
