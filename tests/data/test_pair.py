"""Tests of ``nibt.data.pair``."""

import re
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from PIL import Image

import nibt
from nibt.data.images import read_image
from nibt.data.objects import Object, Point
from nibt.data.pair import Pair, caption_notes, read_caption
from nibt.errors import BadInput
from tests import tiny


def test_control_characters_in_a_caption_give_a_warning(photo_file: str) -> None:
    assert caption_notes("a cat\n\ton a mat") == ()
    answer = nibt.explain(tiny.model("clip"), photo_file, "a cat\x07", steps=1)
    assert any("U+0007" in warning for warning in answer.warnings)


@pytest.mark.parametrize("caption", ["", " ", "\n\t", "\u200b", "\x00\x01", "\u3164", "\u2800\ufe0f", "\u00ad\u2060"])
def test_read_caption_rejects_blank_captions(caption: str) -> None:
    with pytest.raises(BadInput, match=r"is blank|has only invisible"):
        read_caption(caption)


@pytest.mark.parametrize("caption", ["a cat", "🦄", "一只猫", "e\u0301", "cat\x07"])
def test_read_caption_keeps_other_captions(caption: str) -> None:
    assert read_caption(caption) == caption


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"box": (0, 0, float("nan"), 3)}, "the box of the object 'cat' must be left, top, width and height"),
        ({"box": (0, 0, 3)}, "the box of the object 'cat' must be left"),
        ({"mask": np.ones((4, 6), np.uint8)}, "must be a NumPy array of true and false (got uint8)"),
        ({"mask": np.ones((6, 4), bool)}, "must have the shape of the image, (4, 6) (got (6, 4))"),
        ({"points": ((1, 2, True),)}, "the points of the object 'cat' must be"),
        ({"points": (Point(float("inf"), 2, True),)}, "the points of the object 'cat' must be a tuple of Points"),
        ({"spans": ((2, 6),)}, "in the caption, which has 5 characters (got ((2, 6),))"),
        ({"spans": ((2, 2),)}, "must be a tuple of places"),
        ({"spans": ((0, 1, 2),)}, "must be a tuple of places"),
        ({"spans": ((2.0, 5.0),)}, "must be a tuple of places"),
        ({"spans": (2, 5)}, "must be a tuple of places"),
        ({"spans": None}, "must be a tuple of places"),
        ({"spans": iter([(2, 5)])}, "must be a tuple of places"),
        ({"spans": np.array([[2, 5]])}, "must be a tuple of places"),
        ({"spans": ((False, True),)}, "must be a tuple of places"),
        ({"name": 3}, "the name of an object must be a text"),
        ({"box": "1234"}, "the box of the object 'cat' must be left"),
        ({"box": {1, 2, 3, 4}}, "the box of the object 'cat' must be left"),
        ({"box": (True,) * 4}, "the box of the object 'cat' must be left"),
        ({"box": (0, 0, 10**400, 5)}, "the box of the object 'cat' must be left"),
        ({"points": None}, "the points of the object 'cat' must be"),
        ({"points": (Point("1", "2", True),)}, "the points of the object 'cat' must be"),
        ({"points": (Point(1, 2, None),)}, "the points of the object 'cat' must be"),
    ],
)
def test_a_pair_rejects_objects_that_do_not_fit_its_image_and_caption(
    unchecked: None, changes: dict[str, Any], message: str
) -> None:
    fitting = Object("cat", (0, 0, 3, 3), np.ones((4, 6), bool), ((2, 5),), (Point(1, 2, True),))
    image = read_image(Image.new("RGB", (6, 4)))
    assert Pair(image, "a cat", (fitting,)).objects == (fitting,)
    with pytest.raises(BadInput, match=re.escape(message)):
        Pair(image, "a cat", (replace(fitting, **changes),))
