"""Tests of ``nibt.datasets.segmentation``."""

from pathlib import Path

import numpy as np

from nibt.datasets.segmentation import PascalVOCSegmentation
from tests.datasets.layouts import captions, halves, names, pascal_voc_segmentation


def test_labels_are_those_of_the_challenge(tmp_path: Path) -> None:
    pascal_voc_segmentation(tmp_path)
    data = PascalVOCSegmentation(tmp_path)
    assert names(data) == ["2007_000042.jpg", "2007_000033.jpg"]
    assert captions(data) == ["a photo of a tv monitor", "a photo of an airplane"]
    assert data.labels[:2] == ("background", "airplane")
    assert (data.labels[12], data.labels[20]) == ("dog", "tv monitor")
    np.testing.assert_array_equal(data[0].label_map, halves(12, 20, -1))  # pyright: ignore
    for place in ("VOCdevkit", "VOCdevkit/VOC2012"):
        assert captions(PascalVOCSegmentation(tmp_path / place)) == captions(data)
    lacking = PascalVOCSegmentation.check(tmp_path, split="train")
    assert "lacks VOCdevkit/VOC2012/ImageSets/Segmentation/train.txt" in lacking


def test_background_may_be_ignored(tmp_path: Path) -> None:
    pascal_voc_segmentation(tmp_path)
    data = PascalVOCSegmentation(tmp_path, background=False)
    assert len(data.labels) == 20
    assert data.labels[0] == "airplane"
    np.testing.assert_array_equal(data[1].label_map, halves(0, -1, -1))  # pyright: ignore
