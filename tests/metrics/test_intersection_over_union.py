"""Tests of ``nibt.metrics.intersection_over_union``."""

import pytest
import torch

from tests.metrics.known_maps import QUARTER, of, on


def test_intersection_over_union_is_the_best_of_all_thresholds() -> None:
    scores = torch.rand(4, 4, generator=torch.Generator().manual_seed(0))
    pixels = torch.nn.functional.interpolate(scores[None, None], (8, 8), mode="bilinear")[0, 0]
    best = max(
        float(((pixels >= level) & QUARTER).sum() / ((pixels >= level) | QUARTER).sum()) for level in pixels.flatten()
    )
    assert of("intersection_over_union", on(scores)) == pytest.approx(best)
    assert of("intersection_over_union", on(torch.ones(4, 4))) == pytest.approx(0.25)
