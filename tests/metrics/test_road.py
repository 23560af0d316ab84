"""Tests of ``nibt.metrics.faithfulness``."""

from dataclasses import replace

import numpy as np
import torch

import nibt
from nibt.core.inpainting import interpolated
from nibt.core.perturbation import masker
from nibt.metrics.base import MetricInput
from nibt.metrics.faithfulness import ROAD
from nibt.results.attribution import Attribution
from tests import linear, tiny
from tests.helpers import make_side
from tests.metrics.linear_maps import ordered, pairs

RANDOM = np.random.default_rng(0)


def removed(*, inner: bool) -> np.ndarray:
    """Return a random mask of 12 x 15 pixels; with ``inner``, none of the pixels is at the edge."""
    mask = RANDOM.random((12, 15)) < 0.7
    if inner:
        mask[[0, -1]] = mask[:, [0, -1]] = False
    return mask


def test_a_linear_image_is_filled_in_exactly() -> None:
    """The weights are symmetric, so a removed pixel inside a linear image is the mean of its neighbors."""
    row, column = np.mgrid[:12, :15].astype(float)
    image = np.stack([2 * row - 3 * column + 1, np.full_like(row, 4)])
    for _ in range(5):
        mask = removed(inner=True)
        np.testing.assert_allclose(interpolated(image, mask), image[:, mask], atol=1e-9)


def test_filled_pixels_are_weighted_means_of_their_neighbors() -> None:
    image, mask = RANDOM.standard_normal((3, 12, 15)), removed(inner=False)
    filled = image.copy()
    filled[:, mask] = interpolated(image, mask)
    weights = np.array([[1, 2, 1], [2, 0, 2], [1, 2, 1]]) / 12
    for row, column in np.argwhere(mask):
        total, sum_of_weights = np.zeros(3), 0.0
        for down in (-1, 0, 1):
            for across in (-1, 0, 1):
                if 0 <= row + down < 12 and 0 <= column + across < 15:
                    total += weights[down + 1, across + 1] * filled[:, row + down, column + across]
                    sum_of_weights += weights[down + 1, across + 1]
        np.testing.assert_allclose(filled[:, row, column], total / sum_of_weights, atol=1e-9)
    np.testing.assert_array_equal(filled[:, ~mask], image[:, ~mask])
    assert filled.min() >= image[:, ~mask].min() - 1e-9, "means are not outside of the known values"
    assert not interpolated(image, np.ones_like(mask)).any(), "nothing is known"
    assert interpolated(image, np.zeros_like(mask)).shape == (3, 0)


def test_road_of_even_images_is_the_score_itself() -> None:
    """Pixels filled in from an even image are the removed ones, so the score does not change without noise."""
    side = make_side(tiny.model("clip"), "image")
    even = torch.ones_like(side.inputs.values) * torch.tensor([0.3, -0.2, 0.1])[:, None, None]
    side = replace(side, trace=side.tower.trace(replace(side.inputs, values=even), 0))
    scores = torch.randn(2, side.units.count, generator=torch.Generator().manual_seed(0))  # pyright: ignore
    metric_input = MetricInput(side, Attribution(scores, side.units, torch.zeros(2)))
    area, curve = ROAD(noise=0.0).measured(metric_input)
    assert curve.shape == (2, 10)
    torch.testing.assert_close(curve, side.value().float()[:, None].expand(2, 10), atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(area, side.value().float(), atol=1e-5, rtol=1e-4)
    noisy, same, other = (ROAD(noise=0.5, seed=seed)(metric_input) for seed in (0, 0, 1))
    torch.testing.assert_close(noisy, same, atol=0, rtol=0)
    assert (noisy - other).abs().min() > 0


def test_road_ranks_a_perfect_map_first() -> None:
    best, even, worst = ordered(linear.image_side(), ROAD())
    assert (best <= even + 1e-6).all()
    assert (best < worst).all()


def test_road_of_an_item_does_not_depend_on_its_batch() -> None:
    side = make_side(tiny.model("clip"), "image")
    scores = torch.randn(2, side.units.count, generator=torch.Generator().manual_seed(0))  # pyright: ignore
    both = ROAD(levels=3)(MetricInput(side, Attribution(scores, side.units, torch.zeros(2))))
    whole = side.score

    def second(embedding: torch.Tensor) -> torch.Tensor:
        return whole(torch.cat([embedding, embedding], -2))[..., 1:]

    trace = side.tower.trace(side.inputs.take([1]), 0)
    alone = replace(side, trace=trace, score=second)
    single = ROAD(levels=3)(MetricInput(alone, Attribution(scores[1:], side.units, torch.zeros(1))))
    torch.testing.assert_close(single, both[1:], atol=1e-5, rtol=1e-5)


def test_road_begins_with_the_score_and_removes_in_the_order_of_deletion() -> None:
    """What is removed at a level is what ``deletion`` removes; on zero images both fill in zeros."""
    side = make_side(tiny.model("clip"), "image")
    side = replace(side, trace=side.tower.trace(replace(side.inputs, values=0 * side.inputs.values), 0))
    scores = torch.randn(2, side.units.count, generator=torch.Generator().manual_seed(0))  # pyright: ignore
    attribution = Attribution(scores, side.units, torch.zeros(2))
    _, curve = ROAD(noise=0.0, levels=4).measured(MetricInput(side, attribution))
    keep = torch.ones_like(scores)
    torch.testing.assert_close(curve[:, 0], masker(side, side.units)(keep).float(), atol=1e-5, rtol=1e-4)


def test_road_of_towers_that_take_patches_is_unknown() -> None:
    (row,) = nibt.measure(tiny.model("siglip naflex"), pairs(1), ["road"], "center", side="image")
    assert np.isnan(row.value)
    assert len(row.curve) == 10
