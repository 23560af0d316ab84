"""Tests of ``nibt.metrics.corner_share``."""

import pytest
import torch

from tests.metrics.known_maps import block, of, on


def test_corner_share_of_known_maps() -> None:
    assert of("corner_share", on(torch.ones(4, 4))) == pytest.approx(4 / 16)
    assert of("corner_share", on(-block(slice(0, 4, 3), slice(0, 4, 3)))) == 1
    assert of("corner_share", on(torch.zeros(4, 4))) == 0
