"""Tests of ``nibt.results.map_regions``, and of the heatmap and the mask that regions come from."""

import numpy as np
import pytest

from nibt.data.images import Region
from nibt.errors import BadOption
from nibt.report.image.heatmap import mask_image
from nibt.results.connected_regions import map_regions, outlines
from nibt.results.map_regions import Ring, threshold_mask
from tests.answers import PEAK, WHOLE, answer

MIDDLE = Region(30.0, 10.0, 54.0, 54.0)
SIZE = 120, 80


def shoelace(ring: Ring) -> float:
    """The area inside of a line; negative if the line is counterclockwise on the screen."""
    return sum(x * below - right * y for (x, y), (right, below) in zip(ring, ring[1:] + ring[:1], strict=True)) / 2


def test_heatmap_of_equal_scores_is_that_score_inside_the_region() -> None:
    heatmap = answer([[0.25, 0.25], [0.25, 0.25]], SIZE, MIDDLE).heatmap()
    assert heatmap.shape == (80, 120)
    np.testing.assert_allclose(heatmap[10:64, 30:84], 0.25, rtol=1e-6)
    assert np.isnan(heatmap).sum() == 80 * 120 - 54 * 54


def test_heatmap_has_the_scores_in_the_centers_of_the_patches() -> None:
    scores = np.random.default_rng(0).normal(size=(6, 6)).astype(np.float32)
    heatmap = answer(scores.tolist(), SIZE, MIDDLE).heatmap()
    np.testing.assert_allclose(heatmap[14:64:9, 34:84:9], scores, rtol=1e-6)  # a patch has 9 pixels, an odd number


def test_regions_of_one_peak() -> None:
    explanation = answer(PEAK, (90, 90), WHOLE)
    (region,) = explanation.regions()
    left, top, width, height = region.box
    assert (left, top + height) == (0, 90)
    assert 15 <= width < 45
    assert left <= region.peak[0] < left + width
    assert top <= region.peak[1] < top + height
    assert region.score == explanation.heatmap()[region.peak[1], region.peak[0]] == 2.0
    assert region.mask.sum() == region.area == shoelace(region.outlines[0])
    np.testing.assert_array_equal(region.mask, explanation.mask())
    np.testing.assert_array_equal(explanation.mask(), np.asarray(mask_image(explanation)) > 0)
    assert (explanation.heatmap()[region.mask] >= 1.0).all()
    assert (explanation.heatmap()[~region.mask] < 1.0).all()


def test_regions_are_in_the_order_of_their_peaks_and_make_up_the_mask() -> None:
    grid = [[3.0, 0.0, 0.0, 0.0], [0.0, 0.0, 0.0, 0.0], [0.0, 0.0, 0.0, 4.0]]
    explanation = answer(grid, (80, 60), Region(0.0, 0.0, 80.0, 60.0))
    first, second = explanation.regions()
    assert (first.score, second.score) == (4.0, 3.0)
    assert not (first.mask & second.mask).any()
    np.testing.assert_array_equal(first.mask | second.mask, explanation.mask())
    assert len(explanation.regions(0.8)) == 1
    assert second.box[:2] == (0, 0)


def test_map_without_positive_scores_has_no_regions() -> None:
    for scores in ([[-1.0, -2.0]], [[0.0, 0.0]]):
        explanation = answer(scores, (40, 20), Region(0.0, 0.0, 40.0, 20.0))
        assert explanation.regions() == []
        assert explanation.mask().dtype == bool
        assert not explanation.mask().any()


@pytest.mark.parametrize("size", [(8, 5), (90, 90), (91, 67)])
def test_the_highest_pixels_reach_every_threshold(size: tuple[int, int]) -> None:
    """The centers of patches need not be pixels, so that the scores of all pixels may be below the largest score."""
    explanation = answer(
        np.random.default_rng(0).normal(size=(6, 7)).tolist(), size, Region(0.0, 0.0, *map(float, size))
    )
    for threshold in (0.9, 0.99, 1.0):
        mask = explanation.mask(threshold)
        assert mask.any()
        assert bool(mask[np.unravel_index(explanation.heatmap().argmax(), mask.shape)])
        assert explanation.regions(threshold)


@pytest.mark.parametrize("threshold", [0.0, -0.5, 1.5, float("nan")])
def test_threshold_out_of_range_is_rejected(threshold: float) -> None:
    with pytest.raises(BadOption, match="threshold must be above 0 and at most 1"):
        answer(PEAK, (90, 90), WHOLE).regions(threshold)


def test_outline_of_a_rectangle_has_four_corners() -> None:
    mask = np.zeros((9, 12), bool)
    mask[2:5, 3:11] = True
    assert outlines(mask) == (((3, 2), (11, 2), (11, 5), (3, 5)),)
    assert outlines(np.ones((3, 4), bool)) == (((0, 0), (4, 0), (4, 3), (0, 3)),)


def test_outline_of_a_hole_follows_the_outer_one() -> None:
    mask = np.ones((5, 6), bool)
    mask[1:3, 2:4] = False
    outer, hole = outlines(mask)
    assert outer == ((0, 0), (6, 0), (6, 5), (0, 5))
    assert shoelace(hole) == -4
    assert set(hole) == {(2, 1), (4, 1), (4, 3), (2, 3)}


@pytest.mark.parametrize("seed", range(20))
def test_outlines_enclose_the_pixels_of_each_part(seed: int) -> None:
    rng = np.random.default_rng(seed)
    scores = rng.random((11, 14), np.float32)
    mask = threshold_mask(scores, float(scores.max()), 0.45)
    parts = map_regions(scores, mask)
    assert sum(part.area for part in parts) == mask.sum()
    for part in parts:
        outer, *holes = part.outlines
        assert shoelace(outer) > 0
        assert all(shoelace(hole) < 0 for hole in holes)
        assert sum(map(shoelace, part.outlines)) == part.area
        xs, ys = zip(*outer, strict=True)
        assert (min(xs), min(ys), max(xs) - min(xs), max(ys) - min(ys)) == part.box
        assert part.mask[part.peak[1], part.peak[0]]
