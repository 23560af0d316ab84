"""Tests of ``nibt.datasets.phrases``."""

import os
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from nibt.datasets._table import TableCell
from nibt.datasets.phrases import RefCOCO, read_pickle
from nibt.errors import BadInput, BadOption
from tests.datasets.layouts import REFERENCES, captions, lmms_lab_rows, names, refcoco, write, write_json

pyarrow = pytest.importorskip("pyarrow", reason="needs pyarrow: pip install '.[data]'")
pytest.importorskip("pyarrow.parquet", reason="needs pyarrow: pip install '.[data]'")
CLIPPED = np.zeros((6, 8), bool)
CLIPPED[1:4, 2:6] = True


def parquet_table(folder: Path, rows: list[dict[str, Any]], name: str = "val-00000-of-00001") -> Path:
    (folder / "data").mkdir(parents=True, exist_ok=True)
    path = folder / f"data/{name}.parquet"
    pyarrow.parquet.write_table(pyarrow.Table.from_pylist(rows), path, row_group_size=1)
    return path


def test_refcoco_reads_the_original_files(tmp_path: Path) -> None:
    refcoco(tmp_path)
    first, second = RefCOCO(tmp_path)
    assert (first.caption, second.caption) == ("left dog", "woman on the right")
    assert names([first, second]) == ["COCO_train2014_000000000009.jpg"] * 2
    dog, person = first.objects
    assert (dog.name, dog.box, dog.spans) == ("dog", (2, 1, 4, 3), ((0, 8),))
    np.testing.assert_array_equal(dog.mask, CLIPPED)  # pyright: ignore
    assert (person.name, person.box, person.spans) == ("person", (6, 0, 2, 6), ()), "another object is not named"
    assert [obj.name for obj in second.objects] == ["person", "dog"]
    assert captions(RefCOCO(tmp_path, choice="all")) == ["left dog", "the dog", "woman on the right"]
    assert RefCOCO(tmp_path, choice="all")[1].objects[0].spans == ((0, 7),)
    (other,) = RefCOCO(tmp_path, split="test")
    assert (other.caption, other.objects[0].mask) == ("a dog", None)
    with pytest.raises(BadOption, match=r"split must be one of test, val in refs\(umd\)\.p \(got 'testA'\)"):
        RefCOCO(tmp_path, split="testA")


def test_refcoco_reads_the_version_and_the_partition(tmp_path: Path) -> None:
    refcoco(tmp_path)
    for version, name in (("refcoco", "refs(unc).p"), ("refcoco+", "refs(unc).p"), ("refcocog", "refs(google).p")):
        folder = tmp_path / version
        write(folder / "instances.json", (tmp_path / "refcocog/instances.json").read_text())
        (folder / name).write_bytes(pickle.dumps([REFERENCES[1]], protocol=0))
        partition = "google" if version == "refcocog" else None
        assert captions(RefCOCO(tmp_path, version=version, partition=partition)) == ["woman on the right"]
    assert len(RefCOCO(tmp_path)) == 2
    assert r"lacks refs(google).p" in RefCOCO.check(tmp_path, version="refcoco", partition="google")
    with pytest.raises(BadOption, match=r"version must be one of refcoco, refcoco\+, refcocog \(got 'x'\)"):
        RefCOCO(tmp_path, version="x")
    with pytest.raises(BadOption, match=r"partition of refcoco\+ must be one of unc \(got 'google'\)"):
        RefCOCO(tmp_path, version="refcoco+", partition="google")


class Call:
    """An object whose pickle calls a function when it is read."""

    def __init__(self, path: Path) -> None:
        self.path = str(path)

    def __reduce__(self) -> Any:
        return os.mkdir, (self.path,)


def test_refcoco_reads_plain_pickles_only(tmp_path: Path) -> None:
    refcoco(tmp_path)
    path = tmp_path / "refcocog/refs(umd).p"
    whole = path.read_bytes()
    for protocol in range(6):
        path.write_bytes(pickle.dumps([*REFERENCES, Call(tmp_path / "called")], protocol=protocol))
        with pytest.raises(BadInput, match=r"it holds \w+\.mkdir, and only plain data are read.*: use the published"):
            RefCOCO(tmp_path)
    assert not (tmp_path / "called").exists()
    for data in (whole[:-20], b"", b"text", whole[: len(whole) // 2]):
        path.write_bytes(data)
        with pytest.raises(BadInput, match="cannot be read as a pickle of plain data"):
            RefCOCO(tmp_path)
    path.write_bytes(b"\x80\x02]q\x00(U\x01aK\x01G?\xf0\x00\x00\x00\x00\x00\x00e.")  # a string of Python 2
    assert read_pickle(path) == ["a", 1, 1.0]
    with pytest.raises(BadInput, match="cannot be read: No such file"):
        read_pickle(tmp_path / "nothing")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"ann_id": 99}, "reference 7, image 9: instances.json does not have this image with the annotation 99"),
        ({"image_id": 5}, "reference 7, image 5: instances.json does not have this image"),
        ({"ann_id": 13}, "does not have this image with the annotation 13"),
        ({"sentences": []}, r"reference 7, image 9: a sentence must be a text, or a list of texts \(got \[\]\)"),
        ({"sentences": None}, r"refs\(umd\)\.p does not have the expected layout"),
    ],
)
def test_refcoco_rejects_wrong_ids(tmp_path: Path, change: dict[str, Any], message: str) -> None:
    refcoco(tmp_path)
    path = tmp_path / "refcocog/refs(umd).p"
    path.write_bytes(pickle.dumps([REFERENCES[0] | change], protocol=2))
    with pytest.raises(BadInput, match=message):
        RefCOCO(tmp_path)


def test_refcoco_rejects_wrong_instances(tmp_path: Path) -> None:
    refcoco(tmp_path)
    path = tmp_path / "refcocog/instances.json"
    write(path, path.read_text()[:-9])
    with pytest.raises(BadInput, match="this is not JSON"):
        RefCOCO(tmp_path)
    write_json(path, {"images": [], "annotations": []})
    with pytest.raises(BadInput, match="does not have the expected layout: 'categories' is missing"):
        RefCOCO(tmp_path)
    path.unlink()
    assert "lacks instances.json beside refs(umd).p" in RefCOCO.check(tmp_path)


@pytest.mark.parametrize("place", [".", "RefCOCOg"])
def test_refcoco_reads_tables_of_lmms_lab(tmp_path: Path, place: str) -> None:
    rows = lmms_lab_rows()
    parquet_table(tmp_path / place, rows, "val-00000-of-00002")
    parquet_table(tmp_path / place, rows[:1], "val-00001-of-00002")
    parquet_table(tmp_path / place, rows[:1], "test-00000-of-00001")
    data = RefCOCO(tmp_path)
    assert captions(data) == ["a dog", "people", "a dog"]
    (dog,), (crowd,), _ = (pair.objects for pair in data)
    assert (dog.box, dog.spans) == ((2, 1, 4, 3), ((0, 5),))
    np.testing.assert_array_equal(dog.mask, CLIPPED)  # pyright: ignore
    assert (crowd.box, crowd.mask) == ((6, 0, 2, 6), None), "a crowd has no polygon"
    assert data[0].image.size == (8, 6)
    assert data[0].image.source == "val-00000-of-00002.parquet, row 0"
    assert data[0].image.digest == data.entries[0].digest()
    assert captions(pickle.loads(pickle.dumps(data))) == captions(data)
    assert captions(RefCOCO(tmp_path, choice="all"))[:2] == ["a dog", "left dog"]
    assert captions(RefCOCO(tmp_path, split="test")) == ["a dog"]
    assert isinstance(data.entries[0].image, TableCell)
    assert data.entries[0].with_bytes().image == rows[0]["image"]["bytes"]


@pytest.mark.parametrize("with_splits", [True, False])
def test_refcoco_reads_saved_tables(tmp_path: Path, with_splits: bool) -> None:
    package = pytest.importorskip("datasets", reason="needs datasets: pip install '.[data]'")
    rows = package.Dataset.from_list(lmms_lab_rows()).cast_column("image", package.Image())
    saved = package.DatasetDict({"val": rows, "test": rows.select([1])}) if with_splits else rows
    saved.save_to_disk(tmp_path)
    data = RefCOCO(tmp_path)
    assert captions(data) == ["a dog", "people"]
    assert [pair.image.size for pair in data] == [(8, 6)] * 2
    np.testing.assert_array_equal(data[0].objects[0].mask, CLIPPED)  # pyright: ignore
    (path,) = (tmp_path / ("val" if with_splits else ".")).glob("*.arrow")
    path.write_bytes(path.read_bytes()[:200])
    with pytest.raises(BadInput, match=r"data-00000-of-00001\.arrow cannot be read .*: replace it by a complete file"):
        RefCOCO(tmp_path)


def test_refcoco_rejects_wrong_tables(tmp_path: Path) -> None:
    rows = lmms_lab_rows()
    path = parquet_table(tmp_path, [{"image": rows[0]["image"], "bbox": rows[0]["bbox"]}])
    with pytest.raises(BadInput, match=r"has no column answer, segmentation, iscrowd: it has image, bbox"):
        RefCOCO(tmp_path)
    for change, message in (
        ({"answer": []}, r"row 0: answer must be a text, or a list of texts \(got \[\]\)"),
        ({"bbox": [1.0, 2.0]}, "row 0 does not have the expected layout"),
    ):
        parquet_table(tmp_path, [rows[0] | change])
        with pytest.raises(BadInput, match=message):
            RefCOCO(tmp_path)
    parquet_table(tmp_path, [rows[0] | {"bbox": [1.0, 2.0, 30.0, 4.0]}])
    with pytest.raises(BadInput, match=r"row 0: the box .* must be inside the image of 8 x 6 pixels"):
        RefCOCO(tmp_path)[0]
    parquet_table(tmp_path, [rows[0] | {"image": {"bytes": None, "path": "a.jpg"}}])
    with pytest.raises(BadInput, match=r"row 0: image must have the bytes of an image \(got nothing\)"):
        RefCOCO(tmp_path)[0]
    path.write_bytes(path.read_bytes()[:100])
    with pytest.raises(BadInput, match=r"cannot be read .*: replace it by a complete file"):
        RefCOCO(tmp_path)
