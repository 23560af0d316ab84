"""Tests of ``nibt.report.image.draw``."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

import nibt
from nibt.data.images import Region
from nibt.errors import BadOption
from nibt.report.colors import ALERT_EDGE
from nibt.report.image.draw import draw
from nibt.report.image.layout import font_for
from nibt.results.explanation import MISMATCH, Ranked
from nibt.results.notes import NO_MATCH, Note, note_fields
from tests import tiny
from tests.answers import PEAK, UNSIGNED, WHOLE, answer
from tests.suites import few


@pytest.mark.parametrize("size", [(1, 1), (300, 3), (3, 300), (640, 480)])
def test_draw_takes_images_of_any_size(size: tuple[int, int]) -> None:
    page = draw(
        answer(PEAK, size, Region(0.0, 0.0, *map(float, size)), "a 猫 🦄 e\u0301 " + "very " * 60 + "long caption")
    )
    assert page.width <= 1400
    assert np.asarray(page).std() > 1


def test_fonts_exist_for_every_text() -> None:
    for text in ("cat", "猫", "🦄", "кот", ""):
        assert font_for(text, 20).getlength(text) >= 0


def test_formats_are_known_by_their_suffix(tmp_path: Path) -> None:
    explained = answer(PEAK, (90, 90), WHOLE)
    with pytest.raises(BadOption, match=r"must end in the name of a format.*got '.txt'"):
        nibt.save(explained, tmp_path / "x.txt")
    for name in ("x.png", "x.jpg", "x.webp", "x.PNG"):
        nibt.save(explained, tmp_path / name)
        with Image.open(tmp_path / name) as image:
            assert image.size == draw(explained).size


NOTES = (Note(NO_MATCH, f"{MISMATCH} (similarity 0.100; with the blank caption 0.200)"), "another note")


def test_draw_has_a_bar_for_the_image_and_one_for_the_words(texts: Any) -> None:
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


def test_draw_says_what_is_explained(texts: Any) -> None:
    side = {"name": "difference", "value": 0.25}
    score = {**side, "options": {"against": ["a green dog"]}, "image": side, "text": {"name": "cosine", "value": 0.3}}
    ranked = tuple(Ranked(f"label {rank}", 0.3 - rank / 100, 0.5 / (rank + 1), rank) for rank in range(14))
    explained = replace(answer(PEAK, (900, 900), WHOLE), target=score, ranking=ranked)
    lines = texts(lambda: draw(explained))
    every = " ".join(lines)
    assert lines[0] == "Why \u201ca red cat\u201d rather than \u201ca green dog\u201d?"
    assert "image side: difference 0.250, against the caption \u201ca green dog\u201d" in every
    for part in ("method nib (default), model x", "text side: cosine 0.300", "similarity (cosine) 0.300"):
        assert part in every
    assert {"label 0", "label 9", "0.300", "50.0%", "and 4 more labels"} <= set(lines)
    assert "label 10" not in lines


@pytest.mark.parametrize(("width", "height"), few([(20, 20), (1200, 300), (300, 1200)], [(20, 20)]))
def test_draw_shows_a_mismatch_before_the_map(texts: Any, width: int, height: int) -> None:
    region = Region(0.0, 0.0, float(width), float(height))
    explained = replace(answer(PEAK, (width, height), region), **note_fields(NOTES))
    for page in (draw(explained), draw(replace(explained, method=UNSIGNED))):
        pixels = np.asarray(page.convert("RGB"))
        edge = (pixels == ALERT_EDGE).all(-1).any(1).nonzero()[0]
        image = (pixels == (128, 128, 128)).all(-1).sum(1)
        assert len(edge)
        assert edge.max() < (image > 10).nonzero()[0].min()
    lines = " ".join(texts(lambda: draw(explained)))
    assert lines.count("does not rate these as a match") == 1
    assert "note: another note" in lines
    assert (
        not (np.asarray(draw(replace(explained, **note_fields(NOTES[1:]))).convert("RGB")) == ALERT_EDGE).all(-1).any()
    )


def test_draw_shows_the_verdicts_of_checks(texts: Any) -> None:
    explained = nibt.check(tiny.model("clip"), tiny.image(), "a red cat")
    assert isinstance(explained, nibt.Explanation)
    lines = " ".join(texts(lambda: draw(explained)))
    for check in explained.checks:
        assert f"{check.verdict}: {check.about[0].upper()}{check.about[1:]}." in lines
    assert "pass: " not in " ".join(texts(lambda: draw(replace(explained, checks=()))))


def test_a_decomposition_shows_a_mismatch_in_a_banner(texts: Any) -> None:
    result = nibt.decompose("lite", "sample:coffee", "a guitar", side="text")
    assert isinstance(result, nibt.Decomposition)
    lines = " ".join(texts(lambda: draw(result)))
    assert lines.count(result.mismatch[1:]) == 1
    assert (np.asarray(draw(result).convert("RGB")) == ALERT_EDGE).all(-1).any()
