"""Tests of ``nibt.report.image.draw``."""

from typing import Any

import nibt
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
