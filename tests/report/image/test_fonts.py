"""Tests of ``nibt.report.image.layout``, and of long words in pictures."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageFont

import nibt
from nibt.report.colors import DEFAULT, PAPER
from nibt.report.image.draw import draw
from nibt.report.image.layout import ELLIPSIS, font_for, length, shortened, text_rows
from nibt.report.image.links import draw_links
from nibt.report.image.parts import caption
from tests import tiny
from tests.suites import few

LONG = "x" * 5000


def test_texts_that_do_not_fit_end_with_an_ellipsis() -> None:
    assert shortened("a cat", 15, 200) == "a cat"
    short = shortened(LONG, 15, 200)
    assert short.endswith(ELLIPSIS)
    assert 180 < length(short, 15) <= 200
    assert shortened("a\ncat", 15, 200) == "a cat"
    assert shortened("wide", 15, 1) == "w" + ELLIPSIS, "a text never vanishes"


def test_words_are_broken_into_at_most_four_lines(texts: Callable[[Callable[[], Image.Image]], list[str]]) -> None:
    lines = texts(lambda: text_rows([f"a {LONG} cat"], 400))
    assert len(lines) == 6
    assert [line.endswith(ELLIPSIS) for line in lines] == [False] * 4 + [True, False]
    whole = texts(lambda: text_rows(["\u732b" * 60], 400))
    assert "".join(whole) == "\u732b" * 60, "a sentence without spaces is not cut"


@pytest.mark.parametrize("kind", few(["explanation", "regions", "links"], ["explanation", "regions"]))
def test_a_word_of_any_length_is_drawn_by_few_measurements(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The time of a measurement grows with the text, so the characters that are measured are counted."""
    model, image, measured = tiny.model("clip"), tiny.image(48, 48), []
    regions = nibt.regions(model, image, "red cat", method="occlusion")
    explanation = nibt.explain(model, image, "red cat", method="occlusion")
    words = tuple(replace(word, text=LONG) for word in explanation.words)
    text = replace(explanation.text, caption=LONG, words=words)
    explanation = replace(explanation, sides={"image": explanation.image, "text": text})
    regions = replace(regions, caption=LONG, words=tuple(replace(word, text=LONG) for word in regions.words))
    own = ImageFont.FreeTypeFont.getlength
    monkeypatch.setattr(
        ImageFont.FreeTypeFont,
        "getlength",
        lambda font, text, *rest, **options: (measured.append(len(text)), own(font, text, *rest, **options))[1],
    )
    draws = {
        "explanation": lambda: draw(explanation),
        "regions": lambda: draw(regions),
        "links": lambda: draw_links(regions),
    }
    page = draws[kind]()
    assert sum(measured) < 60 * len(LONG)
    assert page.width <= 1400
    assert page.height <= 2000
    if kind == "explanation":
        edges = np.asarray(caption(explanation, 600, DEFAULT))[:, [0, -1]]
        assert (edges == PAPER).all(), "a word is wider than the page"


def test_matplotlib_has_the_font_of_other_alphabets() -> None:
    for text in ("\u043a\u043e\u0442", "\u03b3\u03ac\u03c4\u03b1", "\U0001f600", "M\u00fcller \u2192"):
        assert Path(str(font_for(text, 15).path)).parts[-5:] == (
            "matplotlib",
            "mpl-data",
            "fonts",
            "ttf",
            "DejaVuSans.ttf",
        )
    assert font_for("\u043a\u043e\u0442 \U0010fffd", 15) == font_for("\u043a\u043e\u0442", 15), "one without a font"
