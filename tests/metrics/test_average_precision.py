"""Tests of ``nibt.metrics.rankings``."""

import numpy as np
import pytest
import torch

from tests.metrics.known_maps import FIRST, of, on


def test_average_precision_of_known_maps() -> None:
    ramp = torch.arange(16.0).flip(0).reshape(4, 4)
    assert of("average_precision", on(torch.ones(4, 4))) == pytest.approx(0.25)
    assert of("average_precision", on(FIRST)) > 0.95
    assert of("average_precision", on(3 * ramp + 7)) == pytest.approx(of("average_precision", on(ramp)))
    assert np.isnan(of("average_precision", on(ramp, torch.zeros(8, 8, dtype=torch.bool))))
