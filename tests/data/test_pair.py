"""Tests of ``nibt.data.pair``."""

import re
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from PIL import Image

import nibt
from nibt.data.images import read_image
from nibt.data.pair import Object, Pair, Point, caption_notes, read_caption
from nibt.errors import BadInput
from tests import tiny


def test_control_characters_in_a_caption_give_a_warning(photo_file: str) -> None:
    assert caption_notes("a cat\n\ton a mat") == ()
    answer = nibt.explain(tiny.model("clip"), photo_file, "a cat\x07", steps=1)
    assert any("U+0007" in warning for warning in answer.warnings)


@pytest.mark.parametrize("caption", ["", " ", "\n\t", "\u200b", "\x00\x01"])
def test_read_caption_rejects_blank_captions(caption: str) -> None:
    with pytest.raises(BadInput, match="blank"):
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
        ({"points": ((1, 2, True),)}, "the points of the object 'cat' must be Points"),
        ({"points": (Point(float("inf"), 2, True),)}, "the points of the object 'cat' must be Points of finite"),
        ({"spans": ((2, 6),)}, "must be places in the caption, of 5 characters (got ((2, 6),))"),
        ({"spans": ((2, 2),)}, "must be places in the caption"),
        ({"spans": ((0, 1, 2),)}, "must be places in the caption"),
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
