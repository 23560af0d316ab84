"""Similarities of maps: Spearman's rank correlation and SSIM (Wang et al., 2004), as in Adebayo et al. (2018)."""

from importlib import import_module

import numpy as np

_WINDOW = 5


def spearman(one: np.ndarray, other: np.ndarray) -> float:
    """Return Spearman's rank correlation of two maps of the same shape, in [-1, 1] (``scipy.stats.spearmanr``).

    It is 1 for two equal or two constant maps, 0 if only one is constant, and NaN for fewer than three units.
    """
    one, other = one.ravel(), other.ravel()
    if one.size < 3:
        return float("nan")
    if np.array_equal(one, other):
        return 1.0
    if not (np.ptp(one) and np.ptp(other)):
        return float(np.ptp(one) == np.ptp(other))
    return float(import_module("scipy.stats").spearmanr(one, other).statistic)


def ssim(one: np.ndarray, other: np.ndarray) -> float:
    """Return the structural similarity (SSIM) of two maps, rows x columns, each rescaled to [0, 1] (scikit-image).

    Windows have 5 x 5 patches, or 3 x 3 if the map is smaller. It is NaN for maps smaller than 3 x 3.
    """
    if min(one.shape) < 3:
        return float("nan")
    window = min(_WINDOW, min(one.shape) - (min(one.shape) + 1) % 2)
    measure = import_module("skimage.metrics").structural_similarity
    return float(measure(_rescaled(one), _rescaled(other), win_size=window, data_range=1.0))


def _rescaled(values: np.ndarray) -> np.ndarray:
    span = np.ptp(values)
    return (values - values.min()) / span if span else np.zeros_like(values)
