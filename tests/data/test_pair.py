"""Tests of ``nibt.data.pair``."""

import pytest

import nibt
from nibt.data.pair import caption_notes, read_caption
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
