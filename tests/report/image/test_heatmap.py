"""Tests of ``nibt.report.image.heatmap``."""

import numpy as np
import pytest
from PIL import Image

from nibt.data.images import Region
from nibt.errors import BadOption
from nibt.preprocessing.images import Resize
from nibt.report.colors import PALETTES, Appearance, appearance
from nibt.report.image.heatmap import map_image, mask_image, overlay, score_map
from tests.answers import PEAK, WHOLE, answer, with_errors

COLORS = Appearance(style="colors")


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
    assert np.ptp(shown[15, 45]) == 0  # a score of 0 has no color
    look = Appearance(positive_only=True)
    positive = np.asarray(overlay(answer(PEAK, (90, 90), WHOLE), Image.new("RGB", (90, 90), (128,) * 3), look), int)
    assert positive[45, 75].tolist() == shown[15, 45].tolist()


@pytest.mark.parametrize("gray", [0, 60, 128, 200, 255])
def test_both_colors_are_visible_on_every_gray(gray: int) -> None:
    shown = np.asarray(overlay(answer(PEAK, (90, 90), WHOLE), Image.new("RGB", (90, 90), (gray,) * 3), COLORS), int)
    assert shown[75, 15, 0] > shown[75, 15, 2] + 60
    assert shown[45, 75, 2] > shown[45, 75, 0] + 60


def test_brightness_of_the_photograph_remains_under_the_full_color() -> None:
    dark, bright = (
        np.asarray(overlay(answer(PEAK, (90, 90), WHOLE), Image.new("RGB", (90, 90), (gray,) * 3), COLORS), int)
        for gray in (0, 255)
    )
    assert (bright - dark)[75, 15].min() > 40


def test_outline_is_where_the_score_passes_half_of_the_maximum() -> None:
    image = Image.new("RGB", (160, 160), (90,) * 3)
    explanation = answer([[0.0, 0.0, 1.0, 1.0]] * 4, (160, 160), Region(0.0, 0.0, 160.0, 160.0))
    changed = (np.asarray(overlay(explanation, image, Appearance(style="outline"))) != 90).any(2)
    across = np.flatnonzero(changed[80])
    assert 79 <= across.mean() <= 80  # between the second and the third unit
    assert 2 <= len(across) <= 6
    line = np.asarray(overlay(explanation, image, Appearance(style="outline")))[80, 78:82].max()
    assert line == 255
    without = np.asarray(overlay(explanation, image, Appearance(style="colors")), int)
    assert without[80].max(1).min() < 255
    assert np.array_equal(
        np.asarray(
            overlay(
                answer([[-1.0, 0.0]], (160, 160), Region(0.0, 0.0, 160.0, 160.0)), image, Appearance(style="outline")
            )
        ),
        np.asarray(image),
    )  # nothing raises the score


def test_heatmap_style_does_not_show_the_image() -> None:
    maps = [
        np.asarray(
            overlay(answer(PEAK, (90, 90), WHOLE), Image.new("RGB", (90, 90), color), Appearance(style="heatmap"))
        )
        for color in ("black", "white")
    ]
    assert np.array_equal(*maps)


def test_palettes_by_name() -> None:
    assert appearance(cmap="orange_purple").palette == PALETTES["orange_purple"]
    brown, teal = appearance(cmap="BrBG").palette.negative, appearance(cmap="BrBG").palette.positive
    assert brown == (84, 48, 5)  # the ends of ColorBrewer's BrBG
    assert teal == (0, 60, 48)
    with pytest.raises(BadOption, match=r"color map of matplotlib, such as PuOr .got 'nowhere'."):
        appearance(cmap="nowhere")
    with pytest.raises(BadOption, match=r"style must be overlay, colors, outline or heatmap .got 'x'."):
        appearance(style="x")


def test_heatmap_has_the_scores_and_nan_outside() -> None:
    size = (300, 100)
    explanation = answer(PEAK, size, Resize("shortest", 24, 24, edge=24).region(size))
    values = explanation.heatmap()
    assert values.dtype == np.float32
    assert values.shape == (100, 300)
    assert np.isnan(values[:, :100]).all()
    assert np.array_equal(values[:, 100:200], score_map(explanation)[:, 100:200])


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


def test_scores_that_may_be_zero_are_pale() -> None:
    """Drawn as a quarter of their size, on the scale of all scores; an outline leaves them out."""
    gray = Image.new("RGB", (90, 90), (128,) * 3)
    explanation = answer(PEAK, (90, 90), WHOLE)
    drawn = np.asarray(overlay(with_errors(explanation, [[0.1] * 3, [0.1, 0.1, 1.5], [0.5] * 3], [0.0] * 3), gray))
    expected = np.asarray(overlay(answer([PEAK[0], [0.0, 0.0, -0.25], PEAK[2]], (90, 90), WHOLE), gray))
    np.testing.assert_array_equal(drawn, expected)
    assert not np.array_equal(drawn, np.asarray(overlay(explanation, gray)))
