"""Tests of ``nibt.datasets.imagenet``."""

from pathlib import Path

import pytest

from nibt.datasets.imagenet import ImageNet
from nibt.errors import BadInput, BadOption
from tests.datasets.layouts import captions, image, imagenet, names, write


def test_imagenet_reads_one_folder_with_boxes(tmp_path: Path) -> None:
    imagenet(tmp_path)
    data = ImageNet(tmp_path)
    assert names(data) == [f"ILSVRC2012_val_{number:08d}.JPEG" for number in (1, 10, 2)]
    assert captions(data) == ["a photo of a tench, Tinca tinca"] * 2 + ["a photo of a tabby, tabby cat"]
    assert [[obj.box for obj in pair.objects] for pair in data] == [
        [(2, 1, 1, 1)],
        [(0, 0, 8, 6)],
        [(1, 2, 3, 3), (5, 5, 2, 1)],
    ]
    (obj,) = data[0].objects
    assert data[0].caption[slice(*obj.spans[0])] == obj.name == "tench, Tinca tinca"
    assert names(ImageNet(tmp_path, each=1)) == [f"ILSVRC2012_val_{number:08d}.JPEG" for number in (1, 2)]
    with pytest.raises(BadInput, match="each must be at most 1"):
        ImageNet(tmp_path, each=2)
    with pytest.raises(BadOption, match="each must be between 1 and 1,000,000,000"):
        ImageNet(tmp_path, each=0)


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("val.txt", "ILSVRC2012_val_00000002.JPEG 1\nILSVRC2012_val_00000001.JPEG 0\n"),
        ("labels.txt", "val/ILSVRC2012_val_00000002.JPEG n02123045\nILSVRC2012_val_00000001.JPEG n01440764\n"),
        ("imagenet_2012_validation_synset_labels.txt", "n01440764\nn02123045\n"),
    ],
)
def test_imagenet_reads_other_label_files(tmp_path: Path, name: str, text: str) -> None:
    imagenet(tmp_path)
    (tmp_path / "LOC_val_solution.csv").unlink()
    with pytest.raises(BadInput, match="lacks the labels of its images"):
        ImageNet(tmp_path)
    write(tmp_path / name, text)
    data = ImageNet(tmp_path)
    assert list(zip(names(data), captions(data), strict=True)) == [
        ("ILSVRC2012_val_00000001.JPEG", "a photo of a tench, Tinca tinca"),
        ("ILSVRC2012_val_00000002.JPEG", "a photo of a tabby, tabby cat"),
    ]
    assert not data[0].objects


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("490\n361\n", "line 1: a line with only a number is a label of the development kit"),
        ("a.JPEG 2\n", r"an index from 0 to 1 \(got '2'\)"),
        ("a.JPEG n09999999\n", "line 1: the list of names does not have the synset 'n09999999'"),
    ],
)
def test_imagenet_rejects_wrong_labels(tmp_path: Path, text: str, message: str) -> None:
    imagenet(tmp_path)
    (tmp_path / "LOC_val_solution.csv").unlink()
    write(tmp_path / "val.txt", text)
    with pytest.raises(BadInput, match=message):
        ImageNet(tmp_path)


def test_imagenet_needs_a_synset_list_for_positions(tmp_path: Path) -> None:
    image(tmp_path / "val/ILSVRC2012_val_00000001.JPEG")
    write(tmp_path / "words.txt", "n01440764\ttench, Tinca tinca\n")
    write(tmp_path / "val.txt", "ILSVRC2012_val_00000001.JPEG 0\n")
    with pytest.raises(BadInput, match=r"need LOC_synset_mapping\.txt or synset_words\.txt"):
        ImageNet(tmp_path)
    write(tmp_path / "synset_words.txt", "n01440764 tench, Tinca tinca\n")
    assert captions(ImageNet(tmp_path)) == ["a photo of a tench, Tinca tinca"]
    write(tmp_path / "LOC_synset_mapping.txt", "tench\n")
    with pytest.raises(BadInput, match="line 1: expected the id of a synset and its names"):
        ImageNet(tmp_path)


@pytest.mark.parametrize("place", ["val", "ILSVRC/Data/CLS-LOC/val", "."])
def test_imagenet_reads_a_folder_for_each_synset(tmp_path: Path, place: str) -> None:
    write(tmp_path / "words.txt", "n01440764\ttench, Tinca tinca\nn02123045\ttabby, tabby cat\n")
    for synset, number in (("n02123045", 3), ("n01440764", 20), ("n01440764", 4)):
        image(tmp_path / place / synset / f"x_{number}.JPEG")
    data = ImageNet(tmp_path)
    assert names(data) == ["x_4.JPEG", "x_20.JPEG", "x_3.JPEG"]
    assert captions(data)[2] == "a photo of a tabby, tabby cat"
    if place != ".":
        assert "lacks images of the split train" in ImageNet.check(tmp_path, split="train")
    with pytest.raises(BadOption, match="split must be one of val, train"):
        ImageNet(tmp_path, split="test")
