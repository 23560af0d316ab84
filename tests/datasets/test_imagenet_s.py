"""Tests of ``nibt.datasets.imagenet_masks``."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from nibt.datasets.imagenet_masks import ImageNetS
from nibt.errors import BadInput, BadOption
from tests.datasets.layouts import captions, image, imagenet_s, names, numbers_image, write

MASKS = "ImageNetS919/validation-segmentation"
LAST = "n10000918"


def test_imagenet_s_reads_masks_of_two_channels(tmp_path: Path) -> None:
    imagenet_s(tmp_path)
    data = ImageNetS(tmp_path)
    assert names(data) == ["val_1.JPEG", "val_2.JPEG", "val_10.JPEG"]
    assert captions(data) == ["a photo of a word 0, other"] + ["a photo of a word 918, other"] * 2
    expected = np.zeros((6, 8), bool)
    expected[1:4, 2:6] = True  # neither the ignored pixels (1000) nor those of another class (7)
    for pair in data:
        (obj,) = pair.objects
        np.testing.assert_array_equal(obj.mask, expected)  # pyright: ignore
        assert obj.box == (2, 1, 4, 3), "the box of the mask"
        assert pair.caption[slice(*obj.spans[0])] == obj.name == pair.caption.removeprefix("a photo of a ")
    pixels = np.array(Image.open(tmp_path / MASKS / LAST / "val_2.png"))
    assert pixels[1, 2].tolist() == [151, 3, 0], "919 = 151 + 3 * 256"
    assert names(ImageNetS(tmp_path, each=1)) == ["val_1.JPEG", "val_2.JPEG"]
    assert captions(ImageNetS(tmp_path / ".")) == captions(data)


def test_imagenet_s_reads_the_folder_of_a_version(tmp_path: Path) -> None:
    write(tmp_path / "words.txt", "".join(f"n{number:08d} word\n" for number in range(50)))
    for number in range(50):
        synset = f"n{number:08d}"
        image(tmp_path / f"train-semi/{synset}/{synset}_4.JPEG")
        numbers_image(
            tmp_path / f"train-semi-segmentation/{synset}/{synset}_4.png",
            np.full((6, 8), number + 1 if number else 0),
            2,
        )
    data = ImageNetS(tmp_path, classes=50, split="train")
    assert len(data) == 50
    assert data[0].objects == (), "no pixel is of the class"
    assert data[7].objects[0].box == (0, 0, 8, 6)
    assert "lacks the folder validation" in ImageNetS.check(tmp_path, classes=50)
    with pytest.raises(
        BadInput, match=r"must have 300 classes \(got 50\): set classes, or add ImageNetS_categories_im300"
    ):
        ImageNetS(tmp_path, classes=300, split="train")
    with pytest.raises(BadOption, match=r"classes must be one of 50, 300, 919 \(got 20\)"):
        ImageNetS(tmp_path, classes=20)
    with pytest.raises(BadOption, match="split must be one of val, train"):
        ImageNetS(tmp_path, split="test")


def test_imagenet_s_rejects_wrong_masks(tmp_path: Path) -> None:
    imagenet_s(tmp_path)
    path = tmp_path / MASKS / LAST / "val_2.png"
    item = 1
    for numbers, message in (
        (np.full((6, 8), 920), r"must have the numbers 0 to 919 \(got 920\)"),
        (np.ones((3, 4), int), r"must have the size of the image, 8 x 6 \(got 4 x 3\)"),
    ):
        numbers_image(path, numbers, 2)
        with pytest.raises(BadInput, match=message) as error:
            ImageNetS(tmp_path)[item]
        assert str(error.value).startswith(f"validation, image {LAST}/val_2.JPEG: ")
        path.unlink()
    Image.new("1", (8, 6)).save(path)
    with pytest.raises(BadInput, match=r"is missing or damaged \(expected 8 bits per channel, got the mode 1\)"):
        ImageNetS(tmp_path)[item]
    path.write_bytes(b"\x89PNG\r\n\x1a\n....")
    with pytest.raises(BadInput, match=r"val_2\.png is missing or damaged .*: use the published file"):
        ImageNetS(tmp_path)[item]
    path.unlink()
    with pytest.raises(BadInput, match="is missing or damaged"):
        ImageNetS(tmp_path)[item]


def test_imagenet_s_rejects_wrong_classes(tmp_path: Path) -> None:
    imagenet_s(tmp_path)
    image(tmp_path / "ImageNetS919/validation/n09999999/x.JPEG")
    with pytest.raises(BadInput, match="does not have the synset n09999999, which is a folder of images"):
        ImageNetS(tmp_path)
    (tmp_path / "words.txt").unlink()
    assert "lacks LOC_synset_mapping.txt or synset_words.txt or words.txt" in ImageNetS.check(tmp_path)


def test_imagenet_s_fingerprint_depends_on_masks_but_not_on_the_folder(tmp_path: Path) -> None:
    for folder in ("a", "b"):
        imagenet_s(tmp_path / folder)
    first, second = (ImageNetS(tmp_path / folder).fingerprint() for folder in ("a", "b"))
    assert first == second
    numbers_image(tmp_path / "b" / MASKS / LAST / "val_2.png", np.ones((6, 8), int), 2)
    assert ImageNetS(tmp_path / "b").fingerprint() != first
