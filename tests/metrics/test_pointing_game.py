"""Tests of ``nibt.metrics.pointing_game``."""

import torch

from tests.metrics.known_maps import FIRST, LAST, block, of, on


def test_pointing_game_of_known_maps() -> None:
    assert of("pointing_game", on(FIRST), tolerance=0.0) == 1
    assert of("pointing_game", on(LAST), tolerance=0.0) == 0
    corner = block(slice(3, 4), slice(3, 4))  # the pixel (7, 7), 5.66 pixels from the nearest pixel of the mask, (3, 3)
    assert of("pointing_game", on(corner), tolerance=5.7 / 8) == 1
    assert of("pointing_game", on(corner), tolerance=5.6 / 8) == 0
    assert (
        of("pointing_game", on(torch.ones(4, 4)), tolerance=0.0) == 1
    )  # the mean position is (3.5, 3.5), at the edge of the mask
    ends = torch.zeros(4, 4)
    ends[0, 0] = ends[3, 3] = 1
    assert of("pointing_game", on(-ends - FIRST), tolerance=0.0) == 0
