"""Tests of ``nibt.datasets._label_maps``: what holds for every data set with a label for each pixel."""

import pickle
import struct
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from nibt.datasets._label_maps import LabelMaps
from nibt.datasets.segmentation import ADE20K, COCOStuff, PascalContext, PascalVOCSegmentation
from nibt.errors import BadInput
from tests.datasets.layouts import (
    ade20k,
    captions,
    coco_stuff,
    halves,
    image,
    label_map,
    numbers_image,
    pascal_context,
    pascal_voc_segmentation,
)

LAYOUTS: dict[type[LabelMaps], tuple[Callable[[Path], None], int]] = {
    ADE20K: (ade20k, 150),
    COCOStuff: (coco_stuff, 171),
    PascalContext: (pascal_context, 60),
    PascalVOCSegmentation: (pascal_voc_segmentation, 21),
}
"""How to write each data set, and the number of its labels."""
EACH = pytest.mark.parametrize("kind", LAYOUTS, ids=lambda kind: kind.__name__)


@pytest.fixture
def root(kind: type[LabelMaps], tmp_path: Path) -> Path:
    LAYOUTS[kind][0](tmp_path)
    return tmp_path


def first_map(data: LabelMaps) -> Path:
    return data.root / data.entries[0].annotations[0].outline.path


@EACH
def test_pairs_have_the_labels_and_the_label_map(kind: type[LabelMaps], root: Path) -> None:
    data = kind(root)
    assert len(data.labels) == len(set(data.labels)) == LAYOUTS[kind][1]
    for pair in data:
        assert pair.labels is data.labels
        assert pair.label_map is not None
        assert pair.label_map.shape == (6, 8)
        assert pair.label_map.min() >= -1
        assert pair.label is not None
        label = data.labels[pair.label]
        assert pair.caption.endswith(label)
        counts = {one: int((pair.label_map == place).sum()) for place, one in enumerate(data.labels)}
        counts.pop("background", None)
        assert label == max(counts, key=lambda one: counts[one])
        assert {obj.name for obj in pair.objects} == {one for one, count in counts.items() if count}
        for obj in pair.objects:
            np.testing.assert_array_equal(obj.mask, pair.label_map == data.labels.index(obj.name))  # pyright: ignore
            assert [pair.caption[slice(*span)] for span in obj.spans] == [label] * (obj.name == label)


@EACH
def test_pairs_are_those_of_the_chosen_records(kind: type[LabelMaps], root: Path) -> None:
    """Only the label images of the chosen pairs are read; a stream and a copy in another process have the same."""
    data = kind(root)
    before = captions(data)
    other = data.root / data.entries[1].annotations[0].outline.path
    assert [record and record.captions for record in data.records()] == [entry.captions for entry in data.entries]
    assert captions(pickle.loads(pickle.dumps(data))) == before
    fingerprint = data.fingerprint()
    numbers = np.array(Image.open(other))
    other.unlink()
    assert captions(kind(root, count=1)) == before[:1]
    with pytest.raises(BadInput, match=rf"{other.name} is missing or damaged"):
        kind(root)
    numbers[0, 0] = numbers[0, 7]
    label_map(other, numbers)
    assert kind(root).fingerprint() != fingerprint


@EACH
def test_wrong_label_images_are_errors_of_one_line(kind: type[LabelMaps], root: Path) -> None:
    path = first_map(kind(root))
    largest = {ADE20K: 151, COCOStuff: 182, PascalContext: 60, PascalVOCSegmentation: 21}[kind]

    def damaged() -> None:
        path.write_bytes(path.read_bytes()[:40])

    for change, message in (
        (lambda: label_map(path, np.full((6, 8), largest)), rf"must have the numbers \d.* \(got {largest}\)"),
        (lambda: numbers_image(path, np.ones((6, 8)), 2), r"must have one channel .* \(got 3 channels\)"),
        (lambda: Image.new("1", (8, 6)).save(path), r"is missing or damaged \(expected 8 bits per channel"),
        (damaged, r"is missing or damaged \(.*\): use the published file"),
        (path.unlink, "is missing or damaged"),
    ):
        change()
        with pytest.raises(BadInput, match=message) as error:
            kind(root)
        assert path.name in str(error.value)
        assert "\n" not in str(error.value)
        data = kind(root, strict=False)  # the error is that of its pair
        with pytest.raises(BadInput, match=message):
            data[0]
        assert data[1].caption


@EACH
def test_label_images_have_the_size_of_the_image(kind: type[LabelMaps], root: Path) -> None:
    data = kind(root)
    place = next(place for place, entry in enumerate(data.entries) if entry.label)
    label_map(data.root / data.entries[place].annotations[0].outline.path, np.ones((3, 4)))
    with pytest.raises(BadInput, match=r", image .*must have the size of the image, 8 x 6 \(got 4 x 3\)"):
        kind(root)[place]


def test_image_without_objects_is_background(tmp_path: Path) -> None:
    pascal_voc_segmentation(tmp_path)
    path = tmp_path / "VOCdevkit/VOC2012/SegmentationClass/2007_000042.png"
    label_map(path, np.where(halves(0, 0) == 255, 255, 0))
    pair = PascalVOCSegmentation(tmp_path)[0]
    assert (pair.caption, pair.label) == ("a photo", None)
    assert [(obj.name, obj.spans) for obj in pair.objects] == [("background", ())]
    assert pair.label_map is not None
    assert np.unique(pair.label_map).tolist() == [-1, 0]


def test_image_of_ignored_pixels_has_no_label_map(tmp_path: Path) -> None:
    ade20k(tmp_path)
    label_map(first_map(ADE20K(tmp_path)), np.zeros((6, 8)))
    pair = ADE20K(tmp_path)[0]
    assert (pair.caption, pair.label, pair.objects, pair.label_map) == ("a photo", None, (), None)


def test_first_of_equal_labels_is_named(tmp_path: Path) -> None:
    pascal_voc_segmentation(tmp_path)
    numbers = np.full((6, 8), 20)
    numbers[:, :4] = 12
    label_map(tmp_path / "VOCdevkit/VOC2012/SegmentationClass/2007_000042.png", numbers)
    assert captions(PascalVOCSegmentation(tmp_path))[0] == "a photo of a dog"


def test_image_without_a_label_image_is_an_error(tmp_path: Path) -> None:
    ade20k(tmp_path)
    home = tmp_path / "ADEChallengeData2016"
    image(home / "images/validation/ADE_val_00000003.jpg")
    with pytest.raises(BadInput, match=r"ADE_val_00000003\.png is missing or damaged"):
        ADE20K(tmp_path)


@pytest.mark.parametrize("bits", [2, 4])
def test_gray_images_of_fewer_bits_are_refused(tmp_path: Path, bits: int) -> None:
    """Pillow would stretch their numbers to 255."""
    pascal_voc_segmentation(tmp_path)
    path = next(tmp_path.rglob("SegmentationClass/*.png"))
    with Image.open(path) as label_image:
        width, height = label_image.size
    chunks = {b"IHDR": struct.pack(">IIBBBBB", width, height, bits, 0, 0, 0, 0)}
    chunks[b"IDAT"] = zlib.compress((b"\0" * (1 + -(-width * bits // 8))) * height)
    parts = [
        struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))
        for name, data in {**chunks, b"IEND": b""}.items()
    ]
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + b"".join(parts))
    with pytest.raises(BadInput, match=rf"expected 8 bits per channel, got the mode L;{bits}"):
        list(PascalVOCSegmentation(tmp_path))
