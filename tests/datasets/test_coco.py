"""Tests of ``nibt.datasets.captioned``."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from nibt.data.segments import decoded, inside
from nibt.datasets.captioned import COCO
from nibt.errors import BadInput, Unsupported
from tests.datasets.layouts import SIDES, captions, coco, image, write


def test_coco_reads_objects_and_the_words_that_name_them(tmp_path: Path) -> None:
    coco(tmp_path)
    first, second = COCO(tmp_path)
    assert (first.caption, second.caption) == ("A man and his dogs", "Two people eat a hot dog.")
    (dog,) = first.objects
    assert (dog.name, dog.box, dog.spans) == ("dog", (2, 1, 4, 3), ((14, 18),))
    expected = np.zeros((6, 8), bool)
    expected[1:4, 2:6] = True
    np.testing.assert_array_equal(dog.mask, expected)  # pyright: ignore
    person, other = second.objects
    assert (person.name, person.box, person.spans) == ("person", (1, 0, 1, 3), ((4, 10),))
    expected = np.zeros((6, 8), bool)
    expected[:3, 1] = True
    np.testing.assert_array_equal(person.mask, expected)  # pyright: ignore
    assert (other.name, other.mask, other.spans) == ("dog", None, ()), "a hot dog is not a dog"
    assert captions(COCO(tmp_path, choice="all"))[:2] == ["A man and his dogs", "A dog runs."]
    assert COCO(tmp_path, choice="all")[1].objects[0].spans == ((2, 5),)
    assert not COCO(tmp_path, objects=False)[0].objects
    assert "lacks annotations/captions_train2017.json" in COCO.check(tmp_path, split="train2017")
    (tmp_path / "annotations/instances_val2017.json").unlink()
    assert "lacks annotations/instances_val2017.json" in COCO.check(tmp_path)
    assert COCO.check(tmp_path, objects=False) == ""


def test_coco_rejects_wrong_files(tmp_path: Path) -> None:
    coco(tmp_path)
    path = tmp_path / "annotations/captions_val2017.json"
    for text, message in (
        ("{", "this is not JSON"),
        ("{}", "does not have the expected layout: 'annotations' is missing"),
        ("[]", "does not have the expected layout"),
        ('{"annotations": [], "images": []}', "lacks pairs"),
    ):
        write(path, text)
        with pytest.raises(BadInput, match=message):
            COCO(tmp_path)
    coco(tmp_path)
    image(tmp_path / "val2017/000000000002.jpg", sides=(4, 3))
    with pytest.raises(BadInput, match=r"0002\.jpg must have 8 x 6 pixels.*\(got 4 x 3\)"):
        COCO(tmp_path)[0]


def test_polygon_mask_has_the_pixels_with_centers_inside() -> None:
    triangle = inside(np.array([[0.0, 0], [4, 0], [0, 4]]), (5, 5))
    # centers (x + 0.5, y + 0.5) below the line x + y = 4; those on the line are outside
    np.testing.assert_array_equal(triangle, [[x + y + 1 < 4 for x in range(5)] for y in range(5)])
    np.testing.assert_array_equal(triangle, inside(np.array([[0.0, 4], [4, 0], [0, 0]]), (5, 5)))
    assert inside(np.array([[-3.0, -3], [9, -3], [9, 9], [-3, 9]]), (4, 5)).all()
    assert not inside(np.array([[9.0, 0], [12, 0], [12, 4]]), (4, 5)).any()
    ring = inside(np.array([[0.0, 0], [5, 0], [5, 5], [0, 5], [0, 0], [1, 1], [4, 1], [4, 4], [1, 4], [1, 1]]), (5, 5))
    assert ring.sum() == 16
    two = decoded([[0, 0, 2, 0, 2, 2, 0, 2], [1, 1, 3, 1, 3, 3, 1, 3]], (4, 4), "x")
    assert two.sum() == 7, "polygons of one object are joined"


@pytest.mark.parametrize(
    ("outline", "message"),
    [
        ([[0, 0, 1, 1]], "at least three points"),
        ([[0, 0, 1, 1, 2, float("nan")]], "at least three points"),
        ({"size": [3, 3], "counts": [9]}, r"the mask must have the size of the image.*got \[3, 3\]"),
        ({"size": [6, 8], "counts": [9]}, r"must sum to its 48 pixels \(got 9\)"),
        ({"size": [6, 8], "counts": [50, -2]}, "must sum"),
        ({"size": [6, 8], "counts": []}, "must sum"),
    ],
)
def test_decoded_rejects_wrong_masks(outline: Any, message: str) -> None:
    with pytest.raises(BadInput, match=f"image 9: .*{message}"):
        decoded(outline, SIDES, "image 9")


def test_compressed_masks_need_pycocotools(monkeypatch: pytest.MonkeyPatch) -> None:
    outline = {"size": [6, 8], "counts": "63W1"}
    monkeypatch.setitem(__import__("sys").modules, "pycocotools.mask", None)
    with pytest.raises(Unsupported, match=r"in a clone of nibt, pip install '\.\[data\]'"):
        decoded(outline, SIDES, "image 9")


@pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")  # a warning of pycocotools
def test_masks_equal_those_of_pycocotools() -> None:
    tool = pytest.importorskip("pycocotools.mask", reason="needs pycocotools: pip install '.[data]'")
    runs = {"size": [6, 8], "counts": [6, 3, 39]}
    compressed = tool.frPyObjects(runs, 6, 8)
    np.testing.assert_array_equal(decoded(compressed, SIDES, "x"), decoded(runs, SIDES, "x"))
    random = np.random.default_rng(0)
    for _ in range(20):
        angles, radii = np.sort(random.uniform(0, 2 * np.pi, 12)), random.uniform(20, 45, 12)
        points = np.stack([50 + radii * np.cos(angles), 50 + radii * np.sin(angles)], 1)
        theirs = tool.decode(tool.frPyObjects([points.ravel().tolist()], 100, 100))[..., 0].astype(bool)
        ours = inside(points, (100, 100))
        assert (ours & theirs).sum() / (ours | theirs).sum() > 0.97
