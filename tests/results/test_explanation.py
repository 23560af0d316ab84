"""Tests of ``nibt.results.explanation``."""

from pathlib import Path

import pytest
from PIL import Image

from nibt.report.image.explanation import draw
from nibt.results.explanation import Explanation, change_side
from tests.answers import PEAK, WHOLE, answer


def test_explanation_is_saved_and_loaded(tmp_path: Path) -> None:
    explanation = answer(PEAK, (90, 90), WHOLE)
    explanation.save(tmp_path / "x.json")
    again = Explanation.load(tmp_path / "x.json")
    assert again.to_json() == explanation.to_json()
    assert again.image.input is None  # it was never a file
    with pytest.raises(Exception, match="no longer there"):
        draw(again)
    Image.new("RGB", (9, 9)).save(tmp_path / "x.png")  # another image than that of the explanation
    changed = change_side(again, "image", source=str(tmp_path / "x.png"))
    with pytest.raises(Exception, match="was changed since it was explained"):
        draw(changed)
    (tmp_path / "y.json").write_text("[]")
    with pytest.raises(Exception, match="not a file of kind 'explanation'"):
        Explanation.load(tmp_path / "y.json")
