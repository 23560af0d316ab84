"""Tests of ``nibt.datasets._records``."""

import pytest

from nibt.datasets._records import shuffled, whole_box
from tests.datasets.layouts import SIDES


def test_shuffled_is_the_same_everywhere() -> None:
    assert shuffled([*"abcdefgh"], 0) == [*"hedcgafb"]


@pytest.mark.parametrize(
    ("box", "whole"),
    [
        ((0.4, 0.6, 3.0, 2.0), (0, 1, 3, 2)),
        ((3.2, 3.2, 0.1, 0.0), (3, 3, 1, 1)),
        ((8.0, 6.0, 0.0, 0.0), (7, 5, 1, 1)),
        ((-1.0, -1.0, 10.0, 8.0), (0, 0, 8, 6)),
    ],
)
def test_whole_box_rounds_to_the_nearest_pixels(box: tuple[float, ...], whole: tuple[int, ...]) -> None:
    assert whole_box(box, SIDES, "x") == whole  # pyright: ignore
