"""Tests of ``nibt.report.image.draw``."""

from typing import Any

import numpy as np
import pytest
from PIL import Image

from nibt.report.colors import DEFAULT
from nibt.report.image.parts import scale


def colours(image: Image.Image) -> tuple[int, int]:
    """Return how many pixels are red and how many are blue."""
    red, _, blue = np.moveaxis(np.asarray(image.convert("RGB"), int), -1, 0)
    return int((red > blue + 40).sum()), int((blue > red + 40).sum())


def test_scale_has_two_sides_for_signed_scores(texts: Any) -> None:
    red, blue = colours(scale(0.5, 600, DEFAULT, False))
    assert red == pytest.approx(blue, rel=0.3)
    assert min(red, blue) > 500
    for bar in (scale(0.5, 600, DEFAULT, True), scale(0.5, 600, DEFAULT, True, signed=False)):
        assert colours(bar)[1] == 0
        assert colours(bar)[0] > 1.5 * red
    assert texts(lambda: scale(0.5, 600, DEFAULT, False, name="words")) == ["words", "-0.5  against", "0", "for  0.5"]
    assert texts(lambda: scale(0.5, 600, DEFAULT, True)) == ["", "0", "for  0.5"]
    assert texts(lambda: scale(0.5, 600, DEFAULT, True, signed=False)) == ["", "0", "strength  0.5"]
    assert texts(lambda: scale(0.5, 600, DEFAULT, False, signed=False)) == ["", "-0.5", "0", "0.5"]
    assert texts(lambda: scale(0.0, 600, DEFAULT, False)) == ["", "all scores are 0"]
