"""Tests of ``nibt.metrics.intrinsic``."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from nibt.results.attribution import PathSummary
from tests.metrics.known_maps import FIRST, of, on


def test_completeness_gap_is_a_share_of_the_change() -> None:
    one = torch.ones(1)
    path = PathSummary("zero", "riemann", (1,), one, 0.5 * one, 0.1 * one, 0.3 * one, 0 * one)
    assert of("completeness_gap", on(FIRST, path=path)) == pytest.approx(0.25)
    still = replace(path, at_baseline=0.499 * one, sum=0.101 * one)
    assert of("completeness_gap", on(FIRST, path=still)) == pytest.approx(10)  # of 0.01, since the change is smaller
    assert np.isnan(of("completeness_gap", on(FIRST)))
