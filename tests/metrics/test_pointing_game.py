"""Tests of ``nibt.metrics.localization``."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from nibt.data.ground_truth import GroundTruth
from nibt.data.objects import Point
from nibt.metrics.localization import PointingGame
from nibt.metrics.localization import hit as hit_on
from nibt.registry import find
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


def hit(
    height: int, width: int, peaks: list[tuple[int, int]], inside: list[tuple[int, int]], **options: float
) -> float:
    """Return the value for a map with equal peaks, and a mask of single pixels."""
    scores, mask = torch.zeros(height, width), torch.zeros(height, width, dtype=torch.bool)
    for row, column in peaks:
        scores[row, column] = 2.0
    for row, column in inside:
        mask[row, column] = True
    return hit_on(scores, mask, PointingGame(**options).tolerance)


@pytest.mark.parametrize(("height", "width"), [(640, 40), (40, 640)])
def test_pointing_game_allows_the_published_tolerance(height: int, width: int) -> None:
    """15 pixels for a longer side of 640."""
    assert hit(height, width, [(20, 20)], [(35, 20)]) == 1
    assert hit(height, width, [(20, 20)], [(36, 20), (39, 39)]) == 0
    assert hit(height, width, [(20, 20)], [(29, 32)]) == 1  # 9, 12 and 15 are the sides of a right triangle
    assert hit(height, width, [(20, 20)], [(30, 32)]) == 0


def test_pointing_game_below_a_pixel_of_tolerance_needs_the_pixel_itself() -> None:
    assert hit(40, 40, [(5, 5)], [(5, 6)], tolerance=1 / 40) == 1  # exactly one pixel
    assert hit(40, 40, [(5, 5)], [(5, 6)], tolerance=0.99 / 40) == 0
    assert hit(40, 40, [(5, 5)], [(5, 5)], tolerance=0.0) == 1
    assert hit(40, 40, [(5, 5), (6, 6)], [(6, 5)], tolerance=0.0) == 1  # the mean position is the corner of four pixels
    assert hit(40, 40, [(5, 5), (5, 7)], [(5, 6)], tolerance=0.0) == 1
    assert hit(40, 40, [(5, 5), (5, 8)], [(5, 5), (5, 8)], tolerance=0.0) == 0


def test_pointing_game_of_an_empty_mask_is_unknown() -> None:
    assert np.isnan(hit(8, 8, [(1, 1)], []))


def at_points(name: str, scores: torch.Tensor, points: tuple[Point, ...]) -> float:
    """Return the metric of a map of 4 x 4 cells on 8 x 8 pixels, by labeled points."""
    truth = GroundTruth(points=points, extent=(8, 8))
    (value,) = find("metrics", name)()(replace(on(scores), truths=(truth,))).tolist()
    return value


def test_pointing_game_and_average_precision_of_labeled_points() -> None:
    """The first cell has the highest score, and the cells of a row have equal scores."""
    rows = torch.tensor([4.0, 3, 2, 1])[:, None].expand(4, 4)
    high, low = Point(1, 0, True), Point(1, 7, False)
    assert at_points("pointing_game", rows, (high, low)) == 1
    assert at_points("pointing_game", rows, (high._replace(inside=False), low._replace(inside=True))) == 0
    equal = high, Point(6, 0, False), Point(4, 0, False), low
    assert at_points("pointing_game", rows, equal) == pytest.approx(1 / 3), "one of three equal maxima"
    assert at_points("pointing_game", rows.T, (Point(0, 1, True), Point(7, 1, False))) == 1, "x is the column"
    middle = Point(0, 3, False), high, Point(0, 5, True)  # the precision is 1 at the first, and 2 of 3 at the last
    assert at_points("average_precision", rows, middle) == pytest.approx((1 + 2 / 3) / 2)
    for points in ((high,), (low,), ()):
        assert np.isnan(at_points("pointing_game", rows, points)), "points of both kinds are needed"
        assert np.isnan(at_points("average_precision", rows, points))
