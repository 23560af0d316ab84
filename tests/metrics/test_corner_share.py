"""Tests of ``nibt.metrics.intrinsic``."""

import pytest
import torch

from tests.metrics.known_maps import block, of, on


def test_corner_share_of_known_maps() -> None:
    assert of("corner_share", on(torch.ones(4, 4))) == pytest.approx(4 / 16)
    assert of("corner_share", on(-block(slice(0, 4, 3), slice(0, 4, 3)))) == 1
    assert of("corner_share", on(torch.zeros(4, 4))) == 0


def test_corner_share_counts_each_corner_and_nothing_else() -> None:
    for row in range(4):
        for column in range(4):
            scores = 1e-12 * block(slice(row, row + 1), slice(column, column + 1))  # whatever the size of the scores
            assert of("corner_share", on(scores)) == pytest.approx(float(row in (0, 3) and column in (0, 3)))
