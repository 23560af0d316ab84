"""What people look at is where it ought to be: the map on the original, words on their colours, files whole."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image, ImageDraw

import nibt
import tiny
from answers import PEAK, WHOLE, answer
from nibt.data.images import Region
from nibt.errors import BadOption
from nibt.preprocessing.resize import Resize
from nibt.report.colours import AGAINST, ALERT_EDGE, FOR, blend, ink_on
from nibt.report.image.explanation import check_format, draw, write
from nibt.report.image.fonts import font_for
from nibt.report.image.heatmap import map_image, mask_image, overlay, score_map
from nibt.report.image.interactions import draw_interactions
from nibt.report.image.methods import draw_beside
from nibt.report.image.rows import scale
from nibt.report.request import question, target_line
from nibt.report.words import runs
from nibt.results.explanation import MISMATCH, Explanation, Ranked


def test_the_map_lies_where_the_model_looked() -> None:
    size = (300, 100)  # a wide image, of which the middle square was seen
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


def test_a_padded_picture_loses_what_lies_beside_it() -> None:
    size = (100, 50)
    scores = score_map(answer([[5.0], [1.0], [1.0], [5.0]], size, Resize("longest", 24, 24).region(size)))
    assert scores.shape == (50, 100)
    assert scores[25].max() < 1.5  # the outer rows of the grid are padding, above and below


def test_colours_go_with_the_sign_and_zero_has_none() -> None:
    shown = np.asarray(overlay(answer(PEAK, (90, 90), WHOLE), Image.new("RGB", (90, 90), (128,) * 3)), int)
    assert shown[75, 15, 0] > shown[75, 15, 2] + 40  # for: red
    assert shown[45, 75, 2] > shown[45, 75, 0] + 20  # against: blue
    assert shown[15, 45].tolist() == [128, 128, 128]
    positive_only = np.asarray(overlay(answer(PEAK, (90, 90), WHOLE), Image.new("RGB", (90, 90), (128,) * 3), True))
    assert positive_only[45, 75].tolist() == [128, 128, 128]


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
    assert next(runs(answer(PEAK, (90, 90), WHOLE), positive_only=True)).share == 0


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
    with pytest.raises(BadOption, match=r"must end in the name of an image format.*got '.txt'"):
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
    assert again.image.input is None  # it was never a file
    with pytest.raises(Exception, match="no longer there"):
        draw(again)
    (tmp_path / "y.json").write_text("[]")
    with pytest.raises(Exception, match="no explanation that nibt wrote"):
        Explanation.load(tmp_path / "y.json")


UNSIGNED = {"name": "gae", "variant": "default", "signed": False}
NO_MATCH = (f"{MISMATCH} (similarity 0.100; with the blank caption 0.200)", "another note")


@pytest.fixture
def texts(monkeypatch: pytest.MonkeyPatch) -> Callable[[Callable[[], Image.Image]], list[str]]:
    """What is written on an image, in the order in which it is drawn."""

    def written(make: Callable[[], Image.Image]) -> list[str]:
        lines: list[str] = []
        own = ImageDraw.ImageDraw.text
        with monkeypatch.context() as patch:
            patch.setattr(
                ImageDraw.ImageDraw,
                "text",
                lambda pen, at, text, *rest, **options: (lines.append(text), own(pen, at, text, *rest, **options)),
            )
            make()
        return lines

    return written


def colours(image: Image.Image) -> tuple[int, int]:
    """How many pixels are red and how many are blue."""
    red, _, blue = np.moveaxis(np.asarray(image.convert("RGB"), int), -1, 0)
    return int((red > blue + 40).sum()), int((blue > red + 40).sum())


def test_a_bar_has_two_sides_where_scores_have_a_sign(texts: Any) -> None:
    red, blue = colours(scale(0.5, 600, False))
    assert red == pytest.approx(blue, rel=0.3)
    assert min(red, blue) > 500
    for bar in (scale(0.5, 600, True), scale(0.5, 600, True, signed=False)):
        assert colours(bar)[1] == 0
        assert colours(bar)[0] > 1.5 * red
    assert texts(lambda: scale(0.5, 600, False, name="words")) == ["words", "-0.5  against", "0", "for  0.5"]
    assert texts(lambda: scale(0.5, 600, True)) == ["", "0", "for  0.5"]
    assert texts(lambda: scale(0.5, 600, True, signed=False)) == ["", "0", "strength  0.5"]
    assert texts(lambda: scale(0.5, 600, False, signed=False)) == ["", "-0.5", "0", "0.5"]
    assert texts(lambda: scale(0.0, 600, False)) == ["", "all scores are 0"]


def test_the_image_and_the_words_have_a_bar_each(texts: Any) -> None:
    explained = answer([[0.5, -0.25]], (90, 90), WHOLE)  # the words run from -1 to 2
    lines = texts(lambda: draw(explained))
    image, words = lines.index("image"), lines.index("words")
    assert lines[image + 1 : image + 4] == ["-0.5  against", "0", "for  0.5"]
    assert lines[words + 1 : words + 4] == ["-2  against", "0", "for  2"]
    unsigned = texts(lambda: draw(replace(answer([[0.5, 0.25]], (90, 90), WHOLE), method=UNSIGNED)))
    image, words = unsigned.index("image"), unsigned.index("words")
    assert unsigned[image + 1 : image + 3] == ["0", "strength  0.5"]
    assert unsigned[words + 1 : words + 4] == ["-2", "0", "2"], "some words are below zero, as in RISE"
    assert not any("blue" in text for text in unsigned)


def test_a_picture_says_which_question_it_answers(texts: Any) -> None:
    side = {"target": "difference", "value": 0.25}
    score = {**side, "options": {"against": ["a green dog"]}, "image": side, "text": {"target": "cosine", "value": 0.3}}
    ranked = tuple(Ranked(f"label {rank}", 0.3 - rank / 100, 0.5 / (rank + 1)) for rank in range(14))
    explained = replace(answer(PEAK, (900, 900), WHOLE), score=score, ranking=ranked)
    lines = texts(lambda: draw(explained))
    every = " ".join(lines)
    assert lines[0] == "Why \u201ca red cat\u201d rather than \u201ca green dog\u201d?"
    assert "image side: difference 0.250, against the caption \u201ca green dog\u201d" in every
    for part in ("method nib (default), model x", "text side: cosine 0.300", "similarity (cosine) 0.300"):
        assert part in every
    assert {"label 0", "label 9", "0.300", "50.0%", "and 4 more labels"} <= set(lines)
    assert "label 10" not in lines


@pytest.mark.parametrize("size", [(20, 20), (1200, 300), (300, 1200)])
def test_no_match_is_said_before_the_map(texts: Any, size: tuple[int, int]) -> None:
    explained = replace(answer(PEAK, size, Region(0.0, 0.0, *map(float, size))), warnings=NO_MATCH)
    pages = [draw(explained), draw_beside({"nib": explained, "gae": replace(explained, method=UNSIGNED)})]
    for page in pages:
        pixels = np.asarray(page.convert("RGB"))
        edge = (pixels == ALERT_EDGE).all(-1).any(1).nonzero()[0]
        image = (pixels == (128, 128, 128)).all(-1).sum(1)
        assert len(edge)
        assert edge.max() < (image > 10).nonzero()[0].min()
    lines = " ".join(texts(lambda: draw(explained)))
    assert lines.count("does not rate these as a match") == 1
    assert "note: another note" in lines
    assert not (np.asarray(draw(replace(explained, warnings=NO_MATCH[1:])).convert("RGB")) == ALERT_EDGE).all(-1).any()


def test_methods_beside_each_other_have_a_bar_for_each_map(texts: Any) -> None:
    explained = answer(PEAK, (90, 90), WHOLE)
    lines = texts(lambda: draw_beside({"nib": explained, "gae": replace(explained, method=UNSIGNED)}))
    assert lines.count("-2") == lines.count("2") == 4  # the map and the words of both
    assert "nib: nib (default); gae: gae (default); model x, target cosine" in " ".join(lines)
    assert any(text.startswith("gae: The stronger the color") for text in lines)


def test_a_table_has_a_bar_and_its_question(texts: Any) -> None:
    table = nibt.explain_interactions(tiny.model("clip"), tiny.image(), "two cars", steps=1)
    lines = texts(lambda: draw_interactions(table))
    most = float(table.table.abs().max())
    place = lines.index("all words")
    assert lines[place + 1 : place + 4] == [f"{-most:.2g}  against", "0", f"for  {most:.2g}"]
    assert "Which words of \u201ctwo cars\u201d go with which parts of the image?" in " ".join(lines)
    assert any("method word-region table of nib (default)" in text for text in lines)


CONTRASTS = {
    "softmax": (
        {"against": list(tiny.CAPTIONS[:3])},
        "Why \u201ctwo cars\u201d among 4 captions?",
        "against the captions \u201ca photo of a cat and a dog\u201d, \u201ctwo cars\u201d, ",
    ),
    "difference": ({"against_images": tiny.image(seed=4)}, "Where does the similarity", "text side: difference"),
    "centred": ({"against": ["cat", "a dog", "cars", "a mat"]}, "more than the average caption?", "and 1 more"),
    "ensemble": ({}, "Where does the similarity", "the mean of 5 wordings; text side: cosine"),
    "logit": ({}, "Where does the similarity", "image side: logit"),
    "cosine": ({}, "Where does the similarity", "target cosine"),
}


@pytest.mark.parametrize("target", CONTRASTS)
def test_every_target_is_named_with_what_it_is_against(target: str) -> None:
    options, sentence, line = CONTRASTS[target]
    answer = nibt.explain(tiny.model("clip"), tiny.image(), "two cars", "centre", target, **options)
    assert sentence in question(answer)
    assert line in target_line(answer)
