"""Tests of ``nibt.metrics.localization``."""

import pytest
import torch

from tests.metrics.known_maps import FIRST, LAST, of, on


def test_energy_of_known_maps() -> None:
    assert of("energy", on(FIRST)) > 0.8
    assert of("energy", on(torch.ones(4, 4))) == pytest.approx(0.25)
    assert of("energy", on(-torch.ones(4, 4))) == 0
    assert of("energy", on(FIRST - 5 * LAST)) == pytest.approx(1, abs=0.1)  # negative scores have no mass


def test_energy_is_independent_of_the_scale() -> None:
    scores = torch.randn(4, 4, generator=torch.Generator().manual_seed(0))
    for scale in (1e-12, 1e12):
        assert of("energy", on(scale * scores)) == pytest.approx(of("energy", on(scores)))
