"""Tests of ``nibt.datasets.segmentation``."""

from pathlib import Path

import numpy as np
import pytest

from nibt.datasets.segmentation import PascalVOC
from nibt.errors import BadInput
from tests.datasets.layouts import captions, names, numbers_image, pascal_voc, voc_xml, write

HOME = "VOCdevkit/VOC2012"


def block(rows: slice, columns: slice) -> np.ndarray:
    mask = np.zeros((6, 8), bool)
    mask[rows, columns] = True
    return mask


def test_pascal_voc_reads_a_pair_per_image_and_kind(tmp_path: Path) -> None:
    pascal_voc(tmp_path)
    dogs, plane, plant = PascalVOC(tmp_path)
    assert [pair.caption for pair in (dogs, plane, plant)] == [
        "a photo of a dog",
        "a photo of an airplane",
        "a photo of a potted plant",
    ]
    assert names([dogs, plane, plant]) == ["2007_000033.jpg"] * 2 + ["2008_000001.jpg"]
    assert [obj.spans for obj in dogs.objects] == [((13, 16),), (), ((13, 16),)]
    assert [obj.spans for obj in plane.objects] == [(), ((14, 22),), ()]
    # columns and rows are counted from 1, and the last ones belong to the box
    assert [obj.box for obj in dogs.objects] == [(2, 1, 4, 3), (0, 0, 2, 6), (6, 4, 2, 2)]
    masks = block(slice(1, 3), slice(2, 6)), block(slice(0, 6), slice(0, 2)), block(slice(5, 6), slice(6, 8))
    for obj, mask in zip(dogs.objects, masks, strict=True):  # the number is the position in the XML file
        np.testing.assert_array_equal(obj.mask, mask)  # pyright: ignore


def test_pascal_voc_reads_boxes_of_all_images(tmp_path: Path) -> None:
    pascal_voc(tmp_path)
    data = PascalVOC(tmp_path, masks=False)
    assert captions(data) == ["a photo of a potted plant", "a photo of a dog", "a photo of an airplane"]
    assert all(obj.mask is None for pair in data for obj in pair.objects)
    for place in ("VOCdevkit", HOME):
        assert captions(PascalVOC(tmp_path / place, masks=False)) == captions(data)
    assert "lacks VOCdevkit/VOC2012/ImageSets/Segmentation/train.txt" in PascalVOC.check(tmp_path, split="train")
    assert "lacks VOCdevkit/VOC2007" in PascalVOC.check(tmp_path, year="2007")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("<annotation><object>", r"2008_000001\.xml is missing or damaged \(no element found"),
        ("<annotation></annotation>", "does not have the expected layout: size/width is missing"),
        (voc_xml("x", [("dog", (1, 2, 3, 4))]).replace("<xmin>1", "<xmin>one"), "expected layout: could not convert"),
        (voc_xml("x", [("", (1, 2, 3, 4))]), "expected layout: name is missing"),
    ],
)
def test_pascal_voc_rejects_wrong_annotations(tmp_path: Path, text: str, message: str) -> None:
    pascal_voc(tmp_path)
    path = tmp_path / HOME / "Annotations/2008_000001.xml"
    write(path, text)
    with pytest.raises(BadInput, match=message):
        PascalVOC(tmp_path)
    path.unlink()
    with pytest.raises(BadInput, match=r"2008_000001\.xml is missing or damaged"):
        PascalVOC(tmp_path)


def test_pascal_voc_rejects_wrong_boxes_and_masks(tmp_path: Path) -> None:
    pascal_voc(tmp_path)
    path = tmp_path / HOME / "Annotations/2008_000001.xml"
    for box, message in (((1, 1, 20, 6), "must be inside the image"), ((5, 1, 2, 6), "a box must be left, top, width")):
        write(path, voc_xml("x", [("dog", box)]))
        with pytest.raises(BadInput, match=f"2008_000001.*{message}"):
            PascalVOC(tmp_path)[2]
    write(path, voc_xml("x", [("dog", (1, 1, 2, 2))]).replace("<width>8", "<width>9"))
    with pytest.raises(BadInput, match=r"must have 9 x 6 pixels.*\(got 8 x 6\)"):
        PascalVOC(tmp_path)[2]
    numbers_image(tmp_path / HOME / "SegmentationObject/2007_000033.png", np.ones((2, 2), int), 1)
    with pytest.raises(BadInput, match=r"image 2007_000033: .* the size of the image, 8 x 6 \(got 2 x 2\)"):
        PascalVOC(tmp_path)[0]
    (tmp_path / HOME / "SegmentationObject/2007_000033.png").unlink()
    with pytest.raises(BadInput, match=r"2007_000033\.png is missing or damaged"):
        PascalVOC(tmp_path)[0]
