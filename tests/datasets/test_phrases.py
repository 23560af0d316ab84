"""Tests of ``nibt.datasets.phrases``."""

from pathlib import Path
from typing import Any

import pytest

from nibt.datasets.phrases import Phrases
from nibt.errors import BadInput, BadOption
from tests.datasets.layouts import captions, image, ms_cxr_json, phrases, write, write_json


def test_phrases_have_all_their_boxes(tmp_path: Path) -> None:
    phrases(tmp_path)
    first, second = Phrases(tmp_path)
    assert (first.caption, second.caption) == ("left edema", "cyst")
    assert [(obj.name, obj.box, obj.spans) for obj in first.objects] == [
        ("left edema", (1, 2, 3, 4), ((0, 10),)),
        ("left edema", (5, 0, 3, 1), ((0, 10),)),
    ]
    assert captions(Phrases(tmp_path, split="test")) == ["cyst"]
    with pytest.raises(BadOption, match="split must be one of test, train"):
        Phrases(tmp_path, split="val")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("image,phrase,x,y,w\n", "no column h"),
        ("file,phrase,x,y,w,h\na.jpg,p,0,0,1,1\n", "no column image, or path as in MS-CXR"),
        ("image,phrase,x,y,w,h\na.jpg,p,0,zero,1,1\n", "line 2: x, y, w and h must be numbers"),
        (
            "image,phrase,x,y,w,h,image_width,image_height\na.jpg,p,0,0,1,1,x,2\n",
            "line 2: image_width and image_height",
        ),
    ],
)
def test_phrases_rejects_wrong_tables(tmp_path: Path, text: str, message: str) -> None:
    write(tmp_path / "mine.csv", text)
    with pytest.raises(BadInput, match=message):
        Phrases(tmp_path)


def test_phrases_rejects_boxes_outside_of_the_image(tmp_path: Path) -> None:
    image(tmp_path / "a.jpg")
    write(
        tmp_path / "mine.csv",
        "image,phrase,x,y,w,h\na.jpg,p,0,0,8.9,6\na.jpg,q,4,0,6,1\na.jpg,r,0,0,-1,1\na.jpg,s,0,0,nan,1\n",
    )
    data = Phrases(tmp_path)
    assert data[0].objects[0].box == (0, 0, 8, 6)
    with pytest.raises(BadInput, match=r"mine\.csv, line 3, a\.jpg: the box .*inside .* 8 x 6 pixels .*got \[4\.0"):
        data[1]
    for item in (2, 3):
        with pytest.raises(BadInput, match="a box must be left, top, width and height"):
            data[item]


def test_phrases_of_the_json_file_are_those_of_the_table(tmp_path: Path) -> None:
    ms_cxr_json(tmp_path / "json")
    phrases(tmp_path / "csv")
    pairs, expected = Phrases(tmp_path / "json"), Phrases(tmp_path / "csv")
    assert captions(pairs) == captions(expected) == ["left edema", "cyst"]
    assert [pair.objects for pair in pairs] == [pair.objects for pair in expected]
    image(tmp_path / "json/files/p1.jpg", sides=(4, 6))
    with pytest.raises(BadInput, match=r"files/p1\.jpg must have 8 x 6 pixels.*\(got 4 x 6\)"):
        pairs[0]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"images": []}, r"annotation 0: there is no image with the id 3"),
        ({"images": [{"id": 3, "width": 8, "height": 6}]}, r"annotation 0 does not have .*'path' is missing"),
        ({"annotations": [{"image_id": 3, "bbox": [0, 0, 1]}]}, r"annotation 0 does not have the expected layout"),
        ({"annotations": [{"image_id": 3, "bbox": [0, 0, 1, 1]}]}, r"'label_text' is missing"),
        (
            {"annotations": [{"image_id": 3, "bbox": [0, 0, "x", 1], "label_text": "p"}]},
            r"annotation 0: x, y, w and h must be numbers",
        ),
        ({"annotations": {}}, "lacks pairs"),
        ({"images": 3}, "does not have the expected layout"),
    ],
)
def test_phrases_rejects_wrong_json_files(tmp_path: Path, change: dict[str, Any], message: str) -> None:
    write_json(tmp_path / "MS_CXR_Local_Alignment_v1.0.0.json", ms_cxr_json(tmp_path) | change)
    with pytest.raises(BadInput, match=message):
        Phrases(tmp_path)


def test_phrases_rejects_a_damaged_json_file(tmp_path: Path) -> None:
    write(tmp_path / "MS_CXR_Local_Alignment_v1.0.0.json", '{"images": [')
    with pytest.raises(BadInput, match="this is not JSON"):
        Phrases(tmp_path)
