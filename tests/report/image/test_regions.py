"""Tests of ``nibt.report.image.draw``."""

from dataclasses import replace
from typing import Any

import pytest

import nibt
from nibt.generators.views.answer import AnswerView
from nibt.report.html.view_data import Panel, panel_data
from nibt.report.image.draw import draw
from tests import tiny


def test_draw_interactions_has_a_bar_and_a_title(texts: Any) -> None:
    table = nibt.regions(tiny.model("clip"), tiny.image(), "two cars", steps=1)
    lines = texts(lambda: draw(table))
    most = float(table.table.abs().max())
    place = lines.index("all words")
    assert lines[place + 1 : place + 4] == [f"{-most:.2g}  against", "0", f"for  {most:.2g}"]
    assert "Which words of \u201ctwo cars\u201d go with which parts of the image?" in " ".join(lines)
    assert any("method word-region table of nib (default)" in text for text in lines)


@pytest.mark.slow
def test_a_word_for_which_the_image_hardly_matters_is_pale() -> None:
    result = nibt.explain_answer("scenes_generator", "sample:scene", "describe the picture", method="random")
    first, *others = (replace(word, each_other_image=()) for word in result.words)  # so that the mean gain decides
    words = (replace(first, grid=first.grid * 100, with_other_images=first.log_probability - 0.1), *others)
    matters = tuple(replace(word, with_other_images=word.log_probability - 5) for word in others)
    guessed = replace(result, words=(words[0], *matters))
    view = AnswerView()
    assert view.words_matter(guessed) == [False, *[True] * len(others)]
    assert view.largest_score(guessed) == max(float(word.grid.abs().max()) for word in others)
    chips = [word["pale"] for word in panel_data(Panel(guessed), {})["sides"][1]["words"]]
    assert chips == [True, *[False] * len(others)]
