"""Tests of ``nibt.metrics.rankings``."""

import subprocess
import sys

import numpy as np
import pytest
import torch
from sklearn import metrics

from nibt.metrics._numbers import area_under_roc, average_precision
from tests.metrics.known_maps import FIRST, of, on


def test_average_precision_of_known_maps() -> None:
    ramp = torch.arange(16.0).flip(0).reshape(4, 4)
    assert of("average_precision", on(torch.ones(4, 4))) == pytest.approx(0.25)
    assert of("average_precision", on(FIRST)) > 0.95
    assert of("average_precision", on(3 * ramp + 7)) == pytest.approx(of("average_precision", on(ramp)))
    assert np.isnan(of("average_precision", on(ramp, torch.zeros(8, 8, dtype=torch.bool))))


@pytest.mark.parametrize("seed", range(4))
def test_rankings_are_those_of_scikit_learn(seed: int) -> None:
    draws = np.random.default_rng(seed)
    truth = draws.random(200) < 0.3
    for scores in (draws.normal(size=200), draws.integers(0, 9, 200).astype(np.float32), np.zeros(200)):
        assert average_precision(truth, scores) == pytest.approx(metrics.average_precision_score(truth, scores))
        assert area_under_roc(truth, scores) == pytest.approx(metrics.roc_auc_score(truth, scores))


@pytest.mark.slow
def test_measuring_keeps_the_environment() -> None:
    code = """
import os, random
import nibt.metrics._numbers as numbers
import numpy as np
before, state = dict(os.environ), random.getstate()
numbers.average_precision(np.array([True, False]), np.array([1.0, 0.0]))
numbers.area_under_roc(np.array([True, False]), np.array([1.0, 0.0]))
assert dict(os.environ) == before
assert random.getstate() == state
"""
    subprocess.run([sys.executable, "-c", code], check=True)
