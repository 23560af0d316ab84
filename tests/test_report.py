"""What people look at is where it ought to be: the map on the original, words on their colours, files whole."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from answers import PEAK, WHOLE, answer
from nibt.errors import BadOption
from nibt.explanation import Explanation
from nibt.preparation.geometry import Fit, Region
from nibt.report.colours import AGAINST, FOR, blend, ink_on
from nibt.report.fonts import font_for
from nibt.report.heatmap import map_image, mask_image, overlay, score_map
from nibt.report.picture import check_format, draw, write
from nibt.report.words import runs


def test_the_map_lies_where_the_model_looked() -> None:
    size = (300, 100)  # a wide picture, of which the middle square was seen
    scores = score_map(answer(PEAK, size, Fit("shortest", 24, 24, edge=24).region(size)))
    assert scores.shape == (100, 300)
    row, column = np.unravel_index(scores.argmax(), scores.shape)
    assert 66 <= row < 100
    assert 100 <= column < 134
    row, column = np.unravel_index(scores.argmin(), scores.shape)
    assert 33 <= row < 67
    assert 166 <= column < 200
    assert not scores[:, :100].any()
    assert not scores[:, 200:].any()


def test_a_padded_picture_loses_what_lies_beside_it() -> None:
    size = (100, 50)
    scores = score_map(answer([[5.0], [1.0], [1.0], [5.0]], size, Fit("longest", 24, 24).region(size)))
    assert scores.shape == (50, 100)
    assert scores[25].max() < 1.5  # the outer rows of the grid are padding, above and below


def test_colours_go_with_the_sign_and_zero_has_none() -> None:
    shown = np.asarray(overlay(answer(PEAK, (90, 90), WHOLE), Image.new("RGB", (90, 90), (128,) * 3)), int)
    assert shown[75, 15, 0] > shown[75, 15, 2] + 40  # for: red
    assert shown[45, 75, 2] > shown[45, 75, 0] + 20  # against: blue
    assert shown[15, 45].tolist() == [128, 128, 128]
    positive = np.asarray(overlay(answer(PEAK, (90, 90), WHOLE), Image.new("RGB", (90, 90), (128,) * 3), True))
    assert positive[45, 75].tolist() == [128, 128, 128]


def test_the_scale_is_symmetric() -> None:
    under = np.zeros((2, 3), np.float32)
    assert blend(under, np.array([1, -1], np.float32), 1.0).tolist() == [list(FOR), list(AGAINST)]
    assert ink_on((255, 255, 255)) != ink_on((0, 0, 0))


def test_files_of_the_map_have_the_originals_size() -> None:
    told = answer(PEAK, (120, 60), Region(0.0, 0.0, 120.0, 60.0))
    grey, mask = np.asarray(map_image(told), int), np.asarray(mask_image(told, 0.5))
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


def test_words_carry_their_scores() -> None:
    found = list(runs(answer(PEAK, (90, 90), WHOLE)))
    assert [run.text for run in found] == ["a", "red", "cat"]
    assert [run.share for run in found] == pytest.approx([-0.5, 0.25, 1])
    assert next(runs(answer(PEAK, (90, 90), WHOLE), positive=True)).share == 0


@pytest.mark.parametrize("size", [(1, 1), (300, 3), (3, 300), (640, 480)])
def test_every_picture_can_be_drawn(size: tuple[int, int]) -> None:
    page = draw(
        answer(PEAK, size, Region(0.0, 0.0, *map(float, size)), "a 猫 🦄 e\u0301 " + "very " * 60 + "long caption")
    )
    assert page.width <= 1400
    assert np.asarray(page).std() > 1


def test_a_font_is_found_for_every_text() -> None:
    for text in ("cat", "猫", "🦄", "кот", ""):
        assert font_for(text, 20).getlength(text) >= 0


def test_formats_are_known_by_their_names(tmp_path: Path) -> None:
    with pytest.raises(BadOption, match=r"must end in the name of a picture format.*got '.txt'"):
        check_format(tmp_path / "x.txt")
    for name in ("x.png", "x.jpg", "x.webp", "x.PNG"):
        check_format(tmp_path / name)
        write(Image.new("RGB", (4, 4)), tmp_path / name)
        with Image.open(tmp_path / name) as image:
            assert image.size == (4, 4)


def test_an_explanation_survives_its_file(tmp_path: Path) -> None:
    told = answer(PEAK, (90, 90), WHOLE)
    told.save(tmp_path / "x.json")
    again = Explanation.load(tmp_path / "x.json")
    assert again.to_json() == told.to_json()
    assert again.picture is None  # it was never a file
    with pytest.raises(Exception, match="no longer there"):
        draw(again)
    (tmp_path / "y.json").write_text("[]")
    with pytest.raises(Exception, match="no explanation that nibt wrote"):
        Explanation.load(tmp_path / "y.json")
