"""Tests of ``nibt.results.attribution``."""

import math
import tracemalloc
from typing import Any

import pytest
import torch
import torch.nn.functional as F

import nibt
from nibt.data.images import Region
from nibt.errors import BadInput
from nibt.results.pixels import over_image, placed, to_pixels
from tests.answers import PEAK, WHOLE, answer


@pytest.mark.parametrize("factor", [2, 5, 16])
def test_a_pixel_has_the_mean_over_a_window_of_one_unit(factor: int) -> None:
    grid = torch.randn(3, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(factor))
    flat = grid.repeat_interleave(factor, 0).repeat_interleave(factor, 1)
    wide = F.pad(flat[None], (factor // 2,) * 4, mode="replicate")
    window = torch.ones(factor + 1 - factor % 2, dtype=torch.float64)
    if factor % 2 == 0:  # the window ends in the middle of pixels
        window[[0, -1]] = 0.5
    means = F.conv2d(wide, (window[:, None] * window)[None, None] / factor**2)[0]
    torch.testing.assert_close(to_pixels(grid, 3 * factor, 4 * factor), means)


@pytest.mark.parametrize("region", [(0, 0, 30, 20), (-5, -2, 40, 24), (10, 20, 10, 10), (-5.3, 0.4, 13, 200.7)])
def test_a_map_over_an_image_is_the_part_of_its_region_that_the_image_has(region: tuple[float, ...]) -> None:
    grid, (width, height) = torch.randn(3, 4, generator=torch.Generator().manual_seed(0)), (30, 20)
    left, top, right, bottom = placed(Region(*region), (width, height), (width, height))
    scores = to_pixels(grid, bottom - top, right - left)
    padded = F.pad(scores, (max(0, left), max(0, width - right), max(0, top), max(0, height - bottom)), value=7.0)
    expected = padded[max(0, -top) :][:height, max(0, -left) :][:, :width]
    actual = torch.from_numpy(over_image(grid, Region(*region), (width, height), outside=7.0))
    torch.testing.assert_close(actual, expected, atol=1e-5, rtol=0)


def test_a_region_that_is_far_larger_than_its_image_takes_no_memory() -> None:
    tracemalloc.start()
    record = answer(PEAK, (1, 1), Region(-9000, -9000, 18000, 18000)).to_json()
    loaded = nibt.Explanation.from_json(record)
    loaded.heatmap()
    loaded.mask()
    assert tracemalloc.get_traced_memory()[1] < 10_000_000
    tracemalloc.stop()


@pytest.mark.parametrize(
    ("region", "share"),
    [((0, 0, 40, 40), 0.0), ((0, 0, 40, 80), 0.5), ((-40, -40, 80, 80), 0.75), ((10, 10, 20, 20), 0.0)],
)
def test_the_share_outside_of_the_image_is_that_of_the_padding(region: tuple[float, ...], share: float) -> None:
    side = answer([[1.0, -1.0], [1.0, 1.0]], (40, 40), Region(*map(float, region))).image
    assert side.outside_share == pytest.approx(share)
    assert side.shares_inside((0.0, 0.0, *map(float, side.size))).mean() == pytest.approx(1 - share)


@pytest.mark.usefixtures("unchecked")
@pytest.mark.parametrize("box", [(0, 0, 1), (0, 0, math.nan, 1), (0, 0, -1, 1), None])
@pytest.mark.usefixtures("unchecked")
def test_a_box_for_shares_is_four_numbers(box: Any) -> None:
    with pytest.raises(BadInput, match="a box must be left, top, width and height in pixels"):
        answer(PEAK, (90, 90), WHOLE).image.shares_inside(box)
