"""Tests of points and boxes that answers write, and of their pictures (``nibt.generators.formats.points``)."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import nibt
from nibt.data.images import Region
from nibt.errors import BadOption
from nibt.generators.formats.points import draw_points
from nibt.generators.results.points import placed_points, written_points
from nibt.preprocessing.captions import WORD
from nibt.report.colors import DEFAULT
from tests import tiny
from tests.clicks import clicked
from tests.tiny_vision_language import generator

FAST = {"narrow": ["image"], "layer": 2, "steps": 2, "other_images": []}
SIZE = (300, 200)  # of the image of ``clicked``
WHOLE = Region(0.0, 0.0, 300.0, 200.0)


def numbers(answer: str) -> list[list[tuple[str, float, tuple[str, ...]]]]:
    """Return the numbers of each point of an answer: their axis, their value, and the words that spell them."""
    words = [match.group() for match in WORD.finditer(answer)]
    points = written_points(answer, words)
    return [
        [(number.axis, number.value, tuple(words[word] for word in number.words)) for number in point.numbers]
        for point in points
    ]


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        ("click (412, 230).", [[("x", 412, ("412",)), ("y", 230, ("230",))]]),
        ('{"point_2d": [412,230]}', [[("x", 412, ("412",)), ("y", 230, ("230",))]]),
        ('<point x="61.5" y="40.4" alt="cat">', [[("x", 61.5, ("61.5",)), ("y", 40.4, ("40.4",))]]),
        ("pyautogui.click(x=100, y=200)", [[("x", 100, ("100",)), ("y", 200, ("200",))]]),
        ('{"x": 1, "y": 2}', [[("x", 1, ("1",)), ("y", 2, ("2",))]]),
    ],
)
def test_points_are_found(answer: str, expected: object) -> None:
    assert numbers(answer) == expected


@pytest.mark.parametrize(
    "answer",
    ["[10, 20, 110, 90]", "<|box_start|>(10,20),(110,90)<|box_end|>", '{"bbox_2d": [10,20,110,90]}', "(10,20,110,90)"],
)
def test_boxes_have_four_numbers(answer: str) -> None:
    (box,) = numbers(answer)
    assert [(axis, value) for axis, value, _ in box] == [("x", 10), ("y", 20), ("x", 110), ("y", 90)]


@pytest.mark.parametrize("answer", ["a red cat", "in 2024, 3 cats", "(2024)", "3, 4 or 5", "(1, 2, 3)", "f(x) = 2"])
def test_other_numbers_are_no_points(answer: str) -> None:
    assert numbers(answer) == []


def test_two_points_are_no_box() -> None:
    assert [len(point) for point in numbers("(10, 20), (110, 90) and (1, 2)")] == [2, 2, 2]


def test_words_that_occur_twice_are_told_apart() -> None:
    answer = "20 cats at (20, 20)"
    (point,) = written_points(answer, answer.replace("(", "( ").replace(")", " )").replace(",", " ,").split())
    assert [number.words for number in point.numbers] == [(4,), (6,)]


def test_first_of_many_points_are_drawn() -> None:
    (point,) = written_points("(412, 230)", ["(", "412", ",", "230", ")"])
    result = clicked()
    twenty = draw_points(result, [point] * 20, DEFAULT)
    assert draw_points(result, [point] * 19, DEFAULT).height < twenty.height
    assert 0 < draw_points(result, [point] * 2000, DEFAULT).height - twenty.height < 100


def test_point_lies_where_its_unit_says() -> None:
    (point,) = written_points("(30, 20)", ["(", "30", ",", "20", ")"])
    placed = placed_points(point, SIZE, WHOLE, (60, 40))
    assert {of.units[0].partition(" of")[0]: of.numbers for of in placed[:2]} == {
        "thousandths": (9.0, 4.0),
        "pixels": (30.0, 20.0),
    }
    assert placed[2].units == ("pixels of the image as the model reads it (60 x 40)",)
    assert placed[2].numbers == (150.0, 100.0)


def test_pixels_of_a_crop_start_at_the_crop() -> None:
    (point,) = written_points("(10, 20)", ["(", "10", ",", "20", ")"])
    placed = placed_points(point, SIZE, Region(50.0, 0.0, 200.0, 200.0), (100, 100))
    assert placed[-1].numbers == (70.0, 40.0)


def test_units_outside_of_the_image_are_left_out() -> None:
    (point,) = written_points("(412, 230)", ["(", "412", ",", "230", ")"])
    (placed,) = placed_points(point, SIZE, WHOLE, (48, 32))
    assert placed.units == ("thousandths of the image (0 to 1000)",)
    assert placed.numbers == pytest.approx((123.6, 46.0))


def test_units_with_one_place_are_named_together() -> None:
    (point,) = written_points("(412, 230)", ["(", "412", ",", "230", ")"])
    (placed,) = placed_points(point, (1000, 1000), Region(0.0, 0.0, 1000.0, 1000.0), (1000, 1000))
    assert len(placed.units) == 3


def test_decimal_numbers_may_be_shares_or_percent() -> None:
    (point,) = written_points("(0.5, 0.25)", ["(", "0.5", ",", "0.25", ")"])
    first = placed_points(point, SIZE, WHOLE, None)[0]
    assert first.units[0].startswith("shares")
    assert first.numbers == (150.0, 50.0)
    (point,) = written_points('x="61.5" y="40.5"', ["x", "61.5", "y", "40.5"])
    first = placed_points(point, SIZE, WHOLE, None)[0]
    assert first.units[0].startswith("percent")
    assert first.numbers == pytest.approx((184.5, 81.0))


def test_answer_knows_the_size_that_the_model_reads() -> None:
    result = clicked()
    pixels = generator("qwen3_vl").answers.processor.image_processor(tiny.image(*SIZE).pil_image, return_tensors="pt")
    _, rows, columns = pixels["image_grid_thw"][0].tolist()
    assert result.processed_size == (8 * columns, 8 * rows)


def test_picture_shows_maps_of_both_numbers(tmp_path: Path) -> None:
    result = clicked()
    assert [word.text for word in result.words] == ["(", "412", ",", "230", ")"]
    points = written_points(result.answer, [word.text for word in result.words])
    picture = np.asarray(draw_points(result, points, DEFAULT))
    assert picture.shape[2] == 3
    result.save(tmp_path / "x.points.png")
    with Image.open(tmp_path / "x.points.png") as written:
        assert np.array_equal(np.asarray(written.convert("RGB")), picture)


@pytest.mark.parametrize("ending", [".points.png", ".points.pdf", ".points.svg"])
def test_file_is_written_and_not_replaced(ending: str, tmp_path: Path) -> None:
    path = tmp_path / f"x{ending}"
    clicked().save(path)
    first = path.read_bytes()
    assert len(first) > 5000
    clicked().save(path, cmap="red_blue")
    assert path.read_bytes() == first


def test_boxes_are_drawn(tmp_path: Path) -> None:
    heights = []
    for answer in ("[10, 20, 110, 90]", "(412, 230)"):
        clicked(answer).save(tmp_path / "x.points.png", overwrite=True)
        with Image.open(tmp_path / "x.points.png") as picture:
            heights.append(picture.height)
    assert heights[0] > heights[1]


def test_loaded_result_knows_the_size(tmp_path: Path) -> None:
    plain = clicked()
    plain.save(tmp_path / "x.json")
    assert nibt.AnswerExplanation.load(tmp_path / "x.json").processed_size == plain.processed_size


def test_answer_without_points_is_refused(tmp_path: Path) -> None:
    plain = nibt.explain_answer(generator("qwen2_vl"), tiny.image(), "a red cat", "two red cars", **FAST)
    with pytest.raises(BadOption, match=r"must have a point or a box in numbers, .* \(got 'two red cars'\)"):
        plain.save(tmp_path / "x.points.png")
    assert not (tmp_path / "x.points.png").exists()


def test_several_images_are_refused(tmp_path: Path) -> None:
    images = [tiny.image(64, 64, seed=seed) for seed in range(2)]
    several = nibt.explain_answer(generator("qwen2_vl"), images, "a red cat", "two", **{**FAST, "other_images": None})
    assert several.processed_size is None
    with pytest.raises(BadOption, match="an answer about one image"):
        several.save(tmp_path / "x.points.png")
