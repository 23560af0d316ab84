"""Tests of ``nibt.report.image.methods``."""

from dataclasses import replace
from typing import Any

from nibt.report.image.methods import draw_beside
from tests.answers import PEAK, UNSIGNED, WHOLE, answer


def test_draw_beside_has_a_bar_for_each_map(texts: Any) -> None:
    explained = answer(PEAK, (90, 90), WHOLE)
    lines = texts(lambda: draw_beside({"nib": explained, "gae": replace(explained, method=UNSIGNED)}))
    assert lines.count("-2") == lines.count("2") == 4  # the map and the words of both
    assert "nib: nib (default); gae: gae (default); model x, target cosine" in " ".join(lines)
    assert any(text.startswith("gae: The stronger the color") for text in lines)
