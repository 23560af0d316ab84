"""Tests of ``nibt.datasets.segmentation``."""

from pathlib import Path

import numpy as np
import pytest

from nibt.datasets.segmentation import ADE20K
from nibt.errors import BadInput, BadOption
from tests.datasets.layouts import ade20k, captions, halves, names, write

NAMES = "ADEChallengeData2016/objectInfo150.txt"


def test_labels_are_the_first_names(tmp_path: Path) -> None:
    ade20k(tmp_path)
    data = ADE20K(tmp_path)
    assert names(data) == ["ADE_val_00000002.jpg", "ADE_val_00000010.jpg"], "in natural order"
    assert captions(data) == ["a photo of a sky", "a photo of a building"]
    assert (data.labels[:3], data.labels[149]) == (("wall", "building", "sky"), "thing 150")
    np.testing.assert_array_equal(data[0].label_map, halves(149, 2, -1))  # pyright: ignore
    assert captions(ADE20K(tmp_path / "ADEChallengeData2016")) == captions(data)
    assert "lacks ADEChallengeData2016/images/training" in ADE20K.check(tmp_path, split="train")
    with pytest.raises(BadOption, match="split must be one of val, train"):
        ADE20K(tmp_path, split="test")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda text: text.replace("\n7\t", "\nx\t"), r"line 8: expected the number of a label, columns and its names"),
        (lambda text: text.rpartition("\n150\t")[0], "must have the numbers 1 to 150 and as many names: use the publ"),
        (lambda text: text.replace("thing 9\n", "wall\n"), "must have the numbers 1 to 150 and as many names"),
    ],
)
def test_wrong_lists_are_rejected(tmp_path: Path, change: object, message: str) -> None:
    ade20k(tmp_path)
    text = (tmp_path / NAMES).read_text()
    write(tmp_path / NAMES, text.replace(", edifice", ";edifice"))
    assert captions(ADE20K(tmp_path))[1] == "a photo of a building"
    write(tmp_path / NAMES, change(text))  # type: ignore[operator]
    with pytest.raises(BadInput, match=message):
        ADE20K(tmp_path)
    (tmp_path / NAMES).unlink()
    assert "lacks objectInfo150.txt" in ADE20K.check(tmp_path)
