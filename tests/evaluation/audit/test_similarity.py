"""Tests of ``nibt.evaluation.maps``."""

import numpy as np
import pytest

from nibt.evaluation.maps import spearman, ssim


def test_similarity_is_1_for_equal_and_below_0_for_opposite_maps() -> None:
    drawn = np.random.default_rng(0).normal(size=(8, 8))
    assert spearman(drawn, drawn) == ssim(drawn, drawn) == 1
    assert spearman(drawn, -drawn) == pytest.approx(-1)
    board = np.indices((8, 8)).sum(0) % 2 - 0.5  # each window has nearly the mean of its negative
    assert ssim(board, -board) == pytest.approx(-1, abs=0.02)
    assert ssim(drawn, -drawn) < -0.5


def test_spearman_and_ssim_of_known_maps() -> None:
    assert spearman(np.array([1.0, 2, 3, 4]), np.array([1.0, 2, 4, 3])) == pytest.approx(1 - 6 * 2 / (4 * 15))
    flat = np.zeros((4, 4))
    assert spearman(flat, flat + 1) == 1
    assert spearman(flat, np.arange(16.0).reshape(4, 4)) == 0
    assert np.isnan(spearman(np.array([1.0, 2]), np.array([2.0, 1])))
    assert np.isnan(ssim(np.eye(2), np.eye(2)))


def test_ssim_equals_the_formula_in_one_window() -> None:
    one, other = np.random.default_rng(1).random((2, 3, 3))
    one, other = ((x - x.min()) / np.ptp(x) for x in (one, other))
    (vx, vxy), (_, vy) = np.cov(one.ravel(), other.ravel())
    mx, my, c1, c2 = one.mean(), other.mean(), 0.01**2, 0.03**2
    by_hand = (2 * mx * my + c1) * (2 * vxy + c2) / ((mx**2 + my**2 + c1) * (vx + vy + c2))
    assert ssim(3 * one - 1, other) == pytest.approx(by_hand)


def test_similarity_equals_scipy_and_scikit_image() -> None:
    stats = pytest.importorskip("scipy.stats", reason="the oracle")
    skimage = pytest.importorskip("skimage.metrics", reason="the oracle")
    one, other = np.random.default_rng(2).random((2, 7, 7))
    one, other = ((x - x.min()) / np.ptp(x) for x in (one, other))
    assert spearman(one, other) == pytest.approx(stats.spearmanr(one.ravel(), other.ravel()).statistic)
    assert ssim(one, other) == pytest.approx(skimage.structural_similarity(one, other, win_size=5, data_range=1.0))
