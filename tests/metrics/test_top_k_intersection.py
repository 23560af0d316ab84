"""Tests of ``nibt.metrics.rankings``."""

import numpy as np
import pytest
import torch

from tests.metrics.known_maps import FIRST, LAST, of, on


@pytest.mark.parametrize("share", [0.02, 1 / 16, 0.2])
def test_top_k_intersection_of_known_maps(share: float) -> None:
    assert of("top_k_intersection", on(FIRST), share=share) == 1
    assert of("top_k_intersection", on(LAST), share=share) == 0
    assert of("top_k_intersection", on(torch.ones(4, 4)), share=share) == pytest.approx(0.25)


def test_top_k_intersection_counts_a_share_of_the_pixels() -> None:
    assert of("top_k_intersection", on(FIRST), share=1.0) == pytest.approx(0.25), "all pixels"
    assert of("top_k_intersection", on(FIRST), share=0.5) == pytest.approx(0.5), "the object has a quarter"
    assert np.isnan(of("top_k_intersection", on(FIRST, torch.zeros(8, 8, dtype=torch.bool))))
