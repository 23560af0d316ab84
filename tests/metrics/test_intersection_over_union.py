"""Tests of ``nibt.metrics.segmentation``."""

import numpy as np
import pytest
import torch

from nibt.errors import BadOption
from nibt.metrics.segmentation import IntersectionOverUnion
from tests.metrics.known_maps import QUARTER, of, on


def test_intersection_over_union_is_the_best_of_all_thresholds() -> None:
    scores = torch.rand(4, 4, generator=torch.Generator().manual_seed(0))
    pixels = torch.nn.functional.interpolate(scores[None, None], (8, 8), mode="bilinear")[0, 0]
    best = max(
        float(((pixels >= level) & QUARTER).sum() / ((pixels >= level) | QUARTER).sum()) for level in pixels.flatten()
    )
    assert of("intersection_over_union", on(scores)) == pytest.approx(best)
    assert of("intersection_over_union", on(torch.ones(4, 4))) == pytest.approx(0.25)


def test_intersection_over_union_at_a_fixed_threshold() -> None:
    """Scores are scaled to [0, 1] over the units, and 4 x 4 cells become 8 x 8 pixels."""
    rows = torch.tensor([3.0, 1, 1, 1])[:, None].expand(4, 4)
    # by row of pixels: 1, 0.75, 0.25, 0, ...; the mask has the left half of the first four rows
    assert of("intersection_over_union", on(rows), threshold=0.5) == pytest.approx(8 / (16 + 16 - 8))
    assert of("intersection_over_union", on(10 * rows - 7), threshold=0.8) == pytest.approx(4 / (8 + 16 - 4))
    assert of("intersection_over_union", on(-rows), threshold=0.2) == pytest.approx(12 / (56 + 16 - 12)), "rows 1 to 7"
    assert of("intersection_over_union", on(torch.ones(4, 4)), threshold=0.0) == 0, "a flat map is 0"
    assert of("intersection_over_union", on(rows)) >= of("intersection_over_union", on(rows), threshold=0.5)
    nothing = torch.zeros(8, 8, dtype=torch.bool)
    assert np.isnan(of("intersection_over_union", on(torch.ones(4, 4), nothing), threshold=0.5))
    for threshold in (-0.1, 1.0, float("nan")):
        with pytest.raises(BadOption, match=r"threshold must be at least 0 and below 1 \(got"):
            IntersectionOverUnion(threshold)
