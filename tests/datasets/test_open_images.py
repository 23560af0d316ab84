"""Tests of ``nibt.datasets.open_images``."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import nibt
from nibt.data.images import ImageInput
from nibt.data.objects import Object, Point
from nibt.data.pair import Pair
from nibt.datasets.open_images import OpenImages
from nibt.errors import BadInput, BadOption
from tests import tiny
from tests.datasets.layouts import POINT_COLUMNS, captions, names, open_images, write


def test_open_images_reads_points(tmp_path: Path) -> None:
    open_images(tmp_path)
    tree, sand = OpenImages(tmp_path)
    assert (tree.caption, sand.caption) == ("a photo of a tree", "a photo of a wet sand")
    assert names([tree, sand]) == ["00ab.jpg", "0cd1.jpg"]
    (obj,) = tree.objects
    assert (obj.name, obj.box, obj.mask, obj.spans) == ("tree", None, None, ((13, 17),))
    assert obj.points == (Point(2, 3, True), Point(7, 5, False)), "on images of 8 x 6 pixels; unsure is left out"
    assert sand.objects[0].points == (Point(0, 0, True), Point(7, 5, False)), "1 is the last pixel"
    assert captions(OpenImages(tmp_path, both=False)) == [
        "a photo of a tree",
        "a photo of a sky",
        "a photo of a wet sand",
    ]
    assert "lacks oidv7-train-annotations-point-labels.csv" in OpenImages.check(tmp_path, split="train")
    with pytest.raises(BadOption, match=r"split must be one of train, val, test \(got 'validation'\)"):
        OpenImages(tmp_path, split="validation")


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ("00ab,0.5,1.5,/m/07j7r,yes,pr,1,0,0,", r"line 2: X and Y must be from 0 to 1.*\(got 0\.5 and 1\.5\)"),
        ("00ab,nan,0.5,/m/07j7r,yes,pr,1,0,0,", "line 2: X and Y must be from 0 to 1"),
        ("00ab,x,0.5,/m/07j7r,yes,pr,1,0,0,", "line 2: X and Y must be numbers"),
        ("00ab,0.5,0.5,/m/07j7r,maybe,pr,1,0,0,", r"line 2: EstimatedYesNo must be yes, no or unsure \(got 'maybe'\)"),
        (
            "00ab,0.5,0.5,/m/0,yes,pr,1,0,0,\n00ab,0,0,/m/0,no,pr,1,0,0,",
            "class descriptions do not have the label '/m/0'",
        ),
        ("00ab,0.5,0.5,,yes,pr,1,0,0,\n00ab,0,0,,no,pr,1,0,0,", "line 2: the point has no label"),
        ("00ab,0.5,0.5", r"line 2: expected 10 fields \(got 3\)"),
    ],
)
def test_open_images_rejects_wrong_rows(tmp_path: Path, row: str, message: str) -> None:
    open_images(tmp_path)
    write(tmp_path / "oidv7-val-annotations-point-labels.csv", f"{POINT_COLUMNS}{row}\n")
    with pytest.raises(BadInput, match=message):
        OpenImages(tmp_path)


def test_open_images_rejects_wrong_files(tmp_path: Path) -> None:
    open_images(tmp_path)
    write(tmp_path / "oidv7-class-descriptions.csv", "/m/07j7r,Tree\n")
    with pytest.raises(BadInput, match="has no column LabelName, DisplayName"):
        OpenImages(tmp_path)
    (tmp_path / "oidv7-class-descriptions.csv").unlink()
    assert "lacks oidv7-class-descriptions.csv" in OpenImages.check(tmp_path)


def test_metrics_use_points_in_the_visible_region() -> None:
    """The control ``center`` has its peak in the middle of the image."""
    picture = ImageInput(Image.new("RGB", (40, 30), "red"), "drawn")
    middle, corner = (20, 15), (6, 1)  # the model sees the columns 5 to 34
    values = {}
    for label, on, off in (("right", middle, corner), ("wrong", corner, middle)):
        points = Point(*on, True), Point(*off, False)
        pair = Pair(picture, "a cat", (Object("cat", None, None, ((2, 5),), points),))
        rows = nibt.measure(
            tiny.model("clip"), [pair], ["pointing_game", "average_precision", "energy"], "center", side="image"
        )
        values[label] = [row.value for row in rows]
    assert values["right"][:2] == [1, 1]
    assert values["wrong"][:2] == [0, 0.5]
    assert np.isnan(values["right"][2]), "there is no mask"
    one = Object("cat", None, None, ((2, 5),), (Point(20, 15, True), Point(2, 2, False)))
    (row,) = nibt.measure(
        tiny.model("clip"), [Pair(picture, "a cat", (one,))], ["pointing_game"], "center", side="image"
    )
    assert np.isnan(row.value), "no visible point is off the object"
