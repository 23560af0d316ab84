"""Tests of ``nibt.datasets.shards``."""

from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from nibt.datasets._opening import open_pairs
from nibt.datasets.shards import HuggingFace
from nibt.errors import BadInput, BadOption, Unsupported
from tests import documents
from tests.datasets.layouts import SIDES, captions


def test_hugging_face_needs_its_package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "datasets", None)
    with pytest.raises(Unsupported, match=r"needs the package datasets: in a clone of nibt, pip install '\.\[data\]'"):
        HuggingFace(tmp_path)
    assert ".[data]" in HuggingFace.check(tmp_path)


def test_hugging_face_reads_a_saved_data_set(tmp_path: Path) -> None:
    package = pytest.importorskip("datasets", reason="needs the package datasets: pip install '.[data]'")
    images = [Image.new("RGB", SIDES, (shade, 0, 0)) for shade in (10, 200, 90)]
    table = package.Dataset.from_dict(
        {"photo": images, "text": ["a cat", "a dog", "a cup"], "several": [["a", "b"], ["c", "d"], ["e", "f"]]},
        features=package.Features(
            {
                "photo": package.Image(),
                "text": package.Value("string"),
                "several": package.Sequence(package.Value("string")),
            }
        ),
    )
    table.save_to_disk(tmp_path / "one")
    package.DatasetDict({"test": table}).save_to_disk(tmp_path / "two")
    data = HuggingFace(tmp_path / "one", image="photo", caption="text")
    assert captions(data) == ["a cat", "a dog", "a cup"]
    assert [pair.image.pil_image.getpixel((0, 0))[0] for pair in data] == [10, 200, 90]  # pyright: ignore
    assert data[1].image.source.endswith("one, row 1")
    assert HuggingFace.check(tmp_path / "one", image="photo", caption="text") == ""
    every = HuggingFace(tmp_path / "two", image="photo", caption="several", choice="all", split="test", seed=1, count=4)
    assert len(every) == 4
    with pytest.raises(BadOption, match=r"saved with the splits test: choose one with split=NAME"):
        HuggingFace(tmp_path / "two")
    with pytest.raises(BadOption, match="saved without splits"):
        HuggingFace(tmp_path / "one", split="test")
    with pytest.raises(BadOption, match=r"image must be one of photo, text, several \(got 'image'\)"):
        HuggingFace(tmp_path / "one")
    with pytest.raises(BadInput, match="lacks a saved data set"):
        HuggingFace(tmp_path)


@pytest.mark.parametrize("column", ["mask", "boxes", "objects"])
def test_columns_of_objects_are_refused_and_the_page_says_how_to_keep_them(tmp_path: Path, column: str) -> None:
    package = pytest.importorskip("datasets", reason="needs the package datasets: pip install '.[data]'")
    mask = Image.new("L", SIDES, 0)
    mask.paste(255, (0, 0, 2, 3))
    rows = {"image": [Image.new("RGB", SIDES)], "caption": ["a cat"], column: [mask]}
    features = {name: package.Value("string") if name == "caption" else package.Image() for name in rows}
    table = package.Dataset.from_dict(rows, features=package.Features(features))
    table.save_to_disk(tmp_path / "saved")
    table.to_parquet(tmp_path / "rows.parquet")
    for path in (tmp_path / "saved", tmp_path / "rows.parquet"):
        with pytest.raises(BadInput, match=rf"{column} is read only if you give a folder with pairs\.jsonl"):
            len(open_pairs(path))
    if column == "mask":
        names: dict[str, Any] = {}
        block = next(block for block in documents.blocks("docs/reference/datasets.md") if "def " in block.text)
        documents.run(block, tmp_path, names)
        names["write_folder"](package.load_from_disk(tmp_path / "saved"), tmp_path / "folder")
        (pair,) = open_pairs(tmp_path / "folder")
        assert pair.objects[0].mask is not None
        assert pair.objects[0].mask.sum() == 6


def test_hugging_face_rejects_broken_rows(tmp_path: Path) -> None:
    package = pytest.importorskip("datasets", reason="needs the package datasets: pip install '.[data]'")
    table = package.Dataset.from_dict(
        {"image": [{"path": None, "bytes": b"no image"}, None], "caption": ["a cat", "a dog"]},
        features=package.Features({"image": package.Image(), "caption": package.Value("string")}),
    )
    table.save_to_disk(tmp_path / "broken")
    data = HuggingFace(tmp_path / "broken")
    for item in (0, 1):
        with pytest.raises(BadInput, match=f"broken, row {item}: "):
            data[item]
