"""Tests of ``nibt.metrics.localization``."""

from dataclasses import replace

import numpy as np
import torch

from nibt.data.ground_truth import GroundTruth
from tests.metrics.known_maps import FIRST, LAST, QUARTER, of, on


def test_own_object_of_known_maps() -> None:
    def against(scores: torch.Tensor, *others: torch.Tensor) -> float:
        trial = on(scores)
        return of("own_object", replace(trial, truths=(GroundTruth(QUARTER, others),)))

    other, third = QUARTER.flip(0), QUARTER.flip(1)
    assert against(FIRST, other, third) == 1
    assert against(FIRST + 2 * LAST.flip(1), other, third) == 0  # more of it lies on the lower left
    assert against(-LAST.flip(1), other) == 1
    assert against(-LAST.flip(1), other, third) == 0  # as much on the third object as on its own
    assert np.isnan(against(FIRST))


def test_own_object_ignores_masks_without_pixels() -> None:
    empty, other = torch.zeros(8, 8, dtype=torch.bool), QUARTER.flip(0)

    def value(mask: torch.Tensor | None, *others: torch.Tensor) -> float:
        return of("own_object", replace(on(FIRST), truths=(GroundTruth(mask, others),)))

    assert value(QUARTER, empty, other) == 1
    assert np.isnan(value(QUARTER, empty))
    assert np.isnan(value(empty, other))
    assert np.isnan(value(None, other))
    assert value(QUARTER, QUARTER) == 0  # as much on the other object
