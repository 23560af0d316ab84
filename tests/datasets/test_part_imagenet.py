"""Tests of ``nibt.datasets.imagenet_masks``."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from nibt.datasets.imagenet_masks import PartImageNet
from nibt.errors import BadInput
from tests.datasets.layouts import captions, image, names, part_imagenet, write, write_json


def test_part_imagenet_reads_a_pair_per_image_and_part(tmp_path: Path) -> None:
    part_imagenet(tmp_path)
    data = PartImageNet(tmp_path)
    assert captions(data) == ["a photo of a car tire", "a photo of a quadruped body", "a photo of a quadruped head"]
    assert names(data) == ["n02814533_1.JPEG", "n02085620_7.JPEG", "n02085620_7.JPEG"]
    _, body, head = data
    assert [(obj.name, obj.spans) for obj in head.objects] == [
        ("quadruped body", ()),
        ("quadruped head", ((23, 27),)),
        ("quadruped head", ((23, 27),)),
    ]
    assert head.caption[23:27] == "head"
    assert [bool(obj.spans) for obj in body.objects] == [True, False, False]
    expected = np.zeros((6, 8), bool)
    expected[1:4, 2:6] = True
    np.testing.assert_array_equal(head.objects[1].mask, expected)  # pyright: ignore
    assert head.objects[1].box == (2, 1, 4, 3)


def test_part_imagenet_reads_whole_objects(tmp_path: Path) -> None:
    part_imagenet(tmp_path)
    car, quadruped = PartImageNet(tmp_path, parts=False)
    assert (car.caption, quadruped.caption) == ("a photo of a car", "a photo of a quadruped")
    assert [obj.spans for obj in quadruped.objects] == [((13, 22),)] * 3
    assert quadruped.caption[13:22] == "quadruped"


@pytest.mark.parametrize("place", ["annotations/val.json", "val.json"])
def test_part_imagenet_reads_other_places(tmp_path: Path, place: str) -> None:
    part_imagenet(tmp_path)
    (tmp_path / "annotations/val/val.json").rename(tmp_path / place)
    assert len(PartImageNet(tmp_path)) == 3
    assert "lacks train.json" in PartImageNet.check(tmp_path, split="train")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"image_id": 9}, r"val\.json, annotation 4: there is no image_id 9 in the file"),
        ({"category_id": 9}, r"val\.json, annotation 4: there is no category_id 9 in the file"),
        ({"bbox": [1, 2, 3]}, "does not have the expected layout"),
        ({"bbox": None}, "does not have the expected layout"),
    ],
)
def test_part_imagenet_rejects_wrong_ids(tmp_path: Path, change: dict[str, Any], message: str) -> None:
    part_imagenet(tmp_path)
    path = tmp_path / "annotations/val/val.json"
    data = json.loads(path.read_text())
    data["annotations"][1] |= change
    write_json(path, data)
    with pytest.raises(BadInput, match=message):
        PartImageNet(tmp_path)


def test_part_imagenet_rejects_wrong_files(tmp_path: Path) -> None:
    part_imagenet(tmp_path)
    path = tmp_path / "annotations/val/val.json"
    data = json.loads(path.read_text())
    data["categories"] = [{"id": 0, "name": "Quadruped", "supercategory": "Quadruped"}]
    write_json(path, data)
    with pytest.raises(BadInput, match="the category 'Quadruped' has no part: use the annotations of parts"):
        PartImageNet(tmp_path)
    write(path, path.read_text()[:100])
    with pytest.raises(BadInput, match="this is not JSON"):
        PartImageNet(tmp_path)
    part_imagenet(tmp_path)
    image(tmp_path / "images/val/n02085620_7.JPEG", sides=(4, 3))
    with pytest.raises(BadInput, match=r"must have 8 x 6 pixels.*\(got 4 x 3\)"):
        PartImageNet(tmp_path)[1]
    part_imagenet(tmp_path)
    data = json.loads(path.read_text())
    data["annotations"][0]["segmentation"] = [[1, 2, 3]]
    write_json(path, data)
    with pytest.raises(BadInput, match=r"val\.json, image 2: a polygon must have x and y of at least three points"):
        PartImageNet(tmp_path)[1]
