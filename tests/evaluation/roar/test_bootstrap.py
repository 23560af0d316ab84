"""Tests of ``nibt.evaluation.roar.bootstrap``."""

import numpy as np

from nibt.evaluation.roar.bootstrap import Bootstrap, taus_of
from nibt.evaluation.statistics import scipy_stats


def test_gains_and_rankings_of_known_losses() -> None:
    draws = np.random.default_rng(0)
    base = draws.uniform(0.9, 1.1, (3, 8))
    factors = {"a": 1.3, "b": 1.2, "c": 1.1, "random": 1.0}
    losses_of = {("features", "", ""): base, ("whole", "", ""): 2 * base}
    for name, factor in factors.items():
        losses_of["features", name, "both"] = factor * base
        losses_of["whole", name, "both"] = 2 * (2.5 - factor) * base  # in reverse order
    bootstrap = Bootstrap(losses_of, 0)
    for increase in bootstrap.loss_increases():
        factor = factors[increase.method] if increase.trainable == "features" else 2.5 - factors[increase.method]
        np.testing.assert_allclose([increase.value, increase.low, increase.high], factor - 1, atol=1e-12)
        assert increase.beats_random == (increase.trainable == "features" and increase.method != "random")
    taus = {(one.trainable, one.other, one.controls): one for one in bootstrap.agreements()}
    for controls in (True, False):
        assert taus["features", "whole", controls].tau == taus["features", "whole", controls].high == -1
        assert taus["features", "features", controls].tau == 1
    assert taus["features", "whole", True].methods == 4


def test_taus_equal_scipy() -> None:
    one, other = (np.random.default_rng(seed).integers(0, 5, (50, 7)).astype(float) for seed in (0, 1))
    one[0] = 1.0  # all equal: none
    expected = [scipy_stats().kendalltau(*both).statistic for both in zip(one, other, strict=True)]
    np.testing.assert_allclose(taus_of(one, other), expected, atol=1e-12)
