"""Tests of ``nibt.datasets.segmentation``."""

import shutil
from pathlib import Path

import numpy as np
import pytest

from nibt.datasets.segmentation import COCOStuff
from nibt.errors import BadInput
from tests.datasets.layouts import captions, coco_stuff, halves, label_map, write

CAPTIONS = ["a photo of a wood", "a photo of a sky-other"]


def test_label_images_have_the_numbers_of_the_list_less_one(tmp_path: Path) -> None:
    coco_stuff(tmp_path)
    data = COCOStuff(tmp_path)
    assert captions(data) == CAPTIONS
    assert (data.labels[0], data.labels[11], data.labels[170]) == ("person", "stop sign", "wood")
    assert "x12" not in data.labels, "a street sign, which was never annotated"
    assert [obj.name for obj in data[1].objects] == ["stop sign", "sky-other"]
    np.testing.assert_array_equal(data[0].label_map, halves(0, 170, -1))  # pyright: ignore
    label_map(tmp_path / "stuffthingmaps_trainval2017/val2017/000000000139.png", np.full((6, 8), 11))
    with pytest.raises(BadInput, match=r"must have the numbers 0 to 10, 12 to 24, .*, 255 \(got 11\)"):
        COCOStuff(tmp_path)


def test_converted_label_images_are_numbered_without_gaps(tmp_path: Path) -> None:
    """mmsegmentation's converter writes them beside the published ones."""
    coco_stuff(tmp_path)
    folder = tmp_path / "annotations/val2017"
    shutil.move(tmp_path / "stuffthingmaps_trainval2017/val2017", folder)
    published = COCOStuff(tmp_path)
    assert captions(published) == CAPTIONS
    for name, numbers in (("000000000139", halves(0, 170)), ("000000000285", halves(11, 145))):
        label_map(folder / f"{name}_labelTrainIds.png", numbers)
    converted = COCOStuff(tmp_path)
    assert converted.labels == published.labels
    assert len(converted) == len(published) == 2
    for one, other in zip(converted, published, strict=True):
        np.testing.assert_array_equal(one.label_map, other.label_map)  # pyright: ignore


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("0 unlabeled\n", r"labels\.txt, line 1: expected the number of a label, a colon and its name \(got 0 unl"),
        ("0: unlabeled\n1: person\n", r"labels\.txt must have the numbers 0 to 182: use the published file"),
    ],
)
def test_wrong_lists_are_rejected(tmp_path: Path, text: str, message: str) -> None:
    coco_stuff(tmp_path)
    write(tmp_path / "labels.txt", text)
    with pytest.raises(BadInput, match=message):
        COCOStuff(tmp_path)
    (tmp_path / "labels.txt").unlink()
    assert "lacks labels.txt" in COCOStuff.check(tmp_path)
    assert "lacks stuffthingmaps_trainval2017/train2017 or ann" in COCOStuff.check(tmp_path, split="train2017")
