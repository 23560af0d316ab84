"""Tests of ``nibt.datasets.imagenet``."""

from pathlib import Path

import pytest

from nibt.datasets.imagenet import TinyImageNet
from nibt.errors import BadInput, BadOption
from tests.datasets.layouts import captions, names, tiny_imagenet, write


def test_tiny_imagenet_has_the_subset_of_the_paper(tmp_path: Path) -> None:
    tiny_imagenet(tmp_path)
    data = TinyImageNet(tmp_path)
    assert names(data) == [f"val_{i}.JPEG" for i in (1, 3, 5, 7, 9, 0, 2, 4, 6, 8)]
    assert captions(data) == ["a photo of a goldfish, Carassius auratus"] * 5 + ["a photo of a Egyptian cat"] * 5
    assert [pair.objects[0].box for pair in data][:3] == [(1, 1, 6, 5), (0, 1, 7, 5), (2, 1, 5, 5)]
    assert data[9].caption[slice(*data[9].objects[0].spans[0])] == data[9].objects[0].name == "Egyptian cat"
    assert len(TinyImageNet(tmp_path, each=None)) == 12
    train = TinyImageNet(tmp_path, split="train", each=1)
    assert names(train) == ["n01443537_0.JPEG", "n02124075_0.JPEG"]
    assert train[0].objects[0].box == (0, 0, 8, 6)
    with pytest.raises(BadOption, match="split must be one of val, train"):
        TinyImageNet(tmp_path, split="test")


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ("val_0.JPEG\tn02124075\t0\t0\t7", "line 1: expected 6 fields"),
        ("val_0.JPEG\tn02124075\t5\t0\t3\t4", "line 1: a box must be left, top, right and bottom"),
        ("val_0.JPEG\tn02124075\t5\tx\t3\t4", "line 1: a box must be left"),
        ("val_0.JPEG\tn00001740\t0\t0\t3\t4", "does not have the synset 'n00001740'"),
    ],
)
def test_tiny_imagenet_rejects_wrong_rows(tmp_path: Path, row: str, message: str) -> None:
    tiny_imagenet(tmp_path)
    write(tmp_path / "val/val_annotations.txt", row)
    with pytest.raises(BadInput, match=message):
        TinyImageNet(tmp_path)
