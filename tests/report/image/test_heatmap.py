"""Tests of ``nibt.report.image.heatmap``."""

import numpy as np
import pytest
from PIL import Image

from nibt.data.images import Region
from nibt.preprocessing.resize import Resize
from nibt.report.colors import AGAINST, FOR, blend, ink_on
from nibt.report.image.heatmap import map_image, mask_image, overlay, score_map
from tests.answers import PEAK, WHOLE, answer


def test_score_map_covers_the_region_that_was_seen() -> None:
    size = (300, 100)  # a wide image, of which the middle square was visible
    scores = score_map(answer(PEAK, size, Resize("shortest", 24, 24, edge=24).region(size)))
    assert scores.shape == (100, 300)
    row, column = np.unravel_index(scores.argmax(), scores.shape)
    assert 66 <= row < 100
    assert 100 <= column < 134
    row, column = np.unravel_index(scores.argmin(), scores.shape)
    assert 33 <= row < 67
    assert 166 <= column < 200
    assert not scores[:, :100].any()
    assert not scores[:, 200:].any()


def test_score_map_crops_padding() -> None:
    size = (100, 50)
    scores = score_map(answer([[5.0], [1.0], [1.0], [5.0]], size, Resize("longest", 24, 24).region(size)))
    assert scores.shape == (50, 100)
    assert scores[25].max() < 1.5  # the outer rows of the grid are padding, above and below


def test_overlay_has_colors_by_sign() -> None:
    shown = np.asarray(overlay(answer(PEAK, (90, 90), WHOLE), Image.new("RGB", (90, 90), (128,) * 3)), int)
    assert shown[75, 15, 0] > shown[75, 15, 2] + 40  # for: red
    assert shown[45, 75, 2] > shown[45, 75, 0] + 20  # against: blue
    assert shown[15, 45].tolist() == [128, 128, 128]
    positive_only = np.asarray(overlay(answer(PEAK, (90, 90), WHOLE), Image.new("RGB", (90, 90), (128,) * 3), True))
    assert positive_only[45, 75].tolist() == [128, 128, 128]


def test_colors_of_the_scale_are_symmetric() -> None:
    under = np.zeros((2, 3), np.float32)
    assert blend(under, np.array([1, -1], np.float32), 1.0).tolist() == [list(FOR), list(AGAINST)]
    assert ink_on((255, 255, 255)) != ink_on((0, 0, 0))


def test_map_and_mask_have_the_size_of_the_image() -> None:
    explanation = answer(PEAK, (120, 60), Region(0.0, 0.0, 120.0, 60.0))
    grey, mask = np.asarray(map_image(explanation), int), np.asarray(mask_image(explanation, 0.5))
    assert grey.shape == mask.shape == (60, 120)
    assert grey[55, 5] == 255
    assert grey[5, 60] == 128
    assert grey[30, 115] == pytest.approx(128 - 64, abs=3)
    assert set(np.unique(mask)) == {0, 255}
    assert mask[55, 5] == 255
    assert mask[30, 115] == 0
    none = answer([[-1.0, -2.0]], (40, 20), Region(0.0, 0.0, 40.0, 20.0))
    assert not np.asarray(mask_image(none)).any()
    assert np.asarray(map_image(answer([[0.0, 0.0]], (40, 20), Region(0.0, 0.0, 40.0, 20.0)))).std() == 0
