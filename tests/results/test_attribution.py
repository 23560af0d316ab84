"""Tests of ``nibt.results.attribution``."""

import pytest
import torch
import torch.nn.functional as F

from nibt.results.attribution import to_pixels


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
