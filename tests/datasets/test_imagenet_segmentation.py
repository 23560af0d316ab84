"""Tests of ``nibt.datasets.imagenet_masks``, on a small file with the layout of the published one."""

from pathlib import Path

import h5py
import numpy as np
import pytest

from nibt.datasets.imagenet_masks import ImageNetSegmentation
from nibt.errors import BadInput, BadOption
from tests.datasets.layouts import captions, write

FILE = "gtsegs_ijcv.mat"
IDS = ("n02123045_7", "n01440764_10026", "n02123045_11")


def stored_pixels(number: int) -> tuple[np.ndarray, np.ndarray]:
    """Return an image, (height, width, 3), and its mask."""
    draw = np.random.default_rng(number)
    height, width = 6 + number, 8
    return draw.integers(0, 256, (height, width, 3), np.uint8), draw.random((height, width)) < 0.4


def segmentation_file(folder: Path) -> None:
    """MATLAB stores cells as references and arrays by columns; a mask is in a cell of its own."""
    write(folder / "words.txt", "n01440764\ttench, Tinca tinca\nn02123045\ttabby, tabby cat\nn00000001\tunused\n")
    with h5py.File(folder / FILE, "w") as file:
        cells = {
            name: file.create_dataset(f"value/{name}", (len(IDS), 1), h5py.ref_dtype) for name in ("img", "gt", "id")
        }
        for number, identity in enumerate(IDS):
            pixels, mask = stored_pixels(number)
            inner = file.create_dataset(f"refs/cell{number}", (1, 1), h5py.ref_dtype)
            arrays = {"img": pixels.transpose(2, 1, 0), "mask": mask.T.astype(np.uint8)}
            arrays["id"] = np.array([[ord(letter)] for letter in identity], np.uint16)
            stored = {name: file.create_dataset(f"refs/{name}{number}", data=array) for name, array in arrays.items()}
            inner[0, 0] = stored["mask"].ref
            cells["img"][number, 0], cells["gt"][number, 0] = stored["img"].ref, inner.ref
            cells["id"][number, 0] = stored["id"].ref


def test_images_and_masks_are_read_as_published(tmp_path: Path) -> None:
    segmentation_file(tmp_path)
    data = ImageNetSegmentation(tmp_path)
    tabby, tench = "a photo of a tabby, tabby cat", "a photo of a tench, Tinca tinca"
    assert captions(data) == [tench, tabby, tabby], "by synset, then by the number of the image"
    assert data.labels == ("tabby, tabby cat", "tench, Tinca tinca")
    for pair, number in zip(data, (1, 0, 2), strict=True):
        pixels, mask = stored_pixels(number)
        assert np.array_equal(np.array(pair.image.pil_image), pixels)
        assert pair.objects[0].mask is not None
        assert np.array_equal(pair.objects[0].mask, mask)
        assert pair.label is not None
        assert pair.caption.endswith(pair.labels[pair.label])
    assert captions(ImageNetSegmentation(tmp_path, each=1)) == [tench, tabby]
    assert data.missing() == ""
    assert data.fingerprint() == ImageNetSegmentation(tmp_path / ".").fingerprint()


def test_images_and_masks_are_squared_together(tmp_path: Path) -> None:
    segmentation_file(tmp_path)
    for pair, number in zip(ImageNetSegmentation(tmp_path, square=16), (1, 0, 2), strict=True):
        pixels, mask = stored_pixels(number)
        assert pair.image.size == (16, 16)
        assert pair.objects[0].mask is not None
        rows = ((np.arange(16) + 0.5) * len(pixels) / 16).astype(int)
        assert np.array_equal(pair.objects[0].mask, mask[rows][:, np.arange(16) // 2])


def test_wrong_files_are_refused(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match=r"ImageNet-Segmentation cannot be read .*, which lacks gtsegs_ijcv.mat"):
        ImageNetSegmentation(tmp_path)
    segmentation_file(tmp_path)
    with pytest.raises(BadInput, match=r"names='openai' needs a file of names with the 1,000 synsets .* \(got 2\)"):
        ImageNetSegmentation(tmp_path, names="openai")
    with pytest.raises(BadOption, match="square must be between 1 and 10,000"):
        ImageNetSegmentation(tmp_path, square=0)
    write(tmp_path / "words.txt", "n01440764\ttench\n")
    with pytest.raises(BadInput, match="the list of names does not have the synset 'n02123045'"):
        ImageNetSegmentation(tmp_path)
    (tmp_path / FILE).write_bytes(b"no MATLAB")
    with pytest.raises(BadInput, match=r"gtsegs_ijcv\.mat is no HDF5 file, or damaged"):
        ImageNetSegmentation(tmp_path)


def test_masks_are_a_part_of_the_content(tmp_path: Path) -> None:
    segmentation_file(tmp_path)
    before = ImageNetSegmentation(tmp_path).fingerprint()
    with h5py.File(tmp_path / FILE, "a") as file:
        file["refs/mask0"][...] = 1 - file["refs/mask0"][()]
    assert ImageNetSegmentation(tmp_path).fingerprint() != before
    with h5py.File(tmp_path / FILE, "a") as file:
        file["refs/mask0"][...] = 255
    with pytest.raises(BadInput, match="the mask must have the numbers 0 and 1"):
        list(ImageNetSegmentation(tmp_path))


def test_a_damaged_image_is_an_error_of_its_pair(tmp_path: Path) -> None:
    segmentation_file(tmp_path)
    with h5py.File(tmp_path / FILE, "a") as file:
        for name, array in (("img0", np.zeros((8, 6), np.uint8)), ("mask1", np.zeros((3, 3), np.uint8))):
            del file[f"refs/{name}"]
            stored = file.create_dataset(f"refs/{name}", data=array)
            cell = file["value/img"] if name == "img0" else file["refs/cell1"]
            cell[0, 0] = stored.ref
    data = ImageNetSegmentation(tmp_path)
    with pytest.raises(BadInput, match="image 1 must be 3 x width x height bytes"):
        data[1]
    with pytest.raises(
        BadInput, match=r"n01440764_10026: the mask must have the size of the image, 8 x 7 \(got 3 x 3\)"
    ):
        data[0]
    assert data[2].objects
    with h5py.File(tmp_path / FILE, "a") as file:
        del file["value/id"]
    with pytest.raises(BadInput, match=r"gtsegs_ijcv\.mat does not have the expected layout"):
        ImageNetSegmentation(tmp_path)


@pytest.mark.parametrize("name", ["img", "gt", "id"])
@pytest.mark.parametrize("kind", ["external storage", "virtual", "external link", "too large"])
def test_other_files_and_large_arrays_are_refused(tmp_path: Path, kind: str, name: str) -> None:
    """A file of a few kilobytes must not read any other file as pixels, nor ask for gigabytes."""
    segmentation_file(tmp_path)
    secret = tmp_path / "secret"
    secret.write_bytes(bytes(range(256)) * 3)
    cell = {"img": "refs/img0", "gt": "refs/mask0", "id": "refs/id0"}[name]
    with h5py.File(tmp_path / "other.h5", "w") as other:
        other.create_dataset("data", (len(IDS), 1), h5py.ref_dtype)
    with h5py.File(tmp_path / FILE, "a") as file:
        parent = file["refs/cell0"] if name == "gt" else file[f"value/{name}"]
        if kind == "external link":
            del file[f"value/{name}"]
            file[f"value/{name}"] = h5py.ExternalLink("other.h5", "data")
        elif kind == "too large":
            stored = file.create_dataset(f"{cell}_new", (3, 50_000, 50_000), np.uint8, chunks=(3, 100, 100))
        elif kind == "virtual":
            layout = h5py.VirtualLayout((3, 8, 8), np.uint8)
            layout[:] = h5py.VirtualSource(str(tmp_path / "other.h5"), "pixels", (3, 8, 8))
            stored = file.create_virtual_dataset(f"{cell}_new", layout)
        else:
            stored = file.create_dataset(f"{cell}_new", (3, 8, 8), np.uint8, external=[(str(secret), 0, 192)])
        if kind != "external link":
            parent[0, 0] = stored.ref
    message = "must have at most 268,435,455 bytes" if kind == "too large" else "in another file"
    with pytest.raises(BadInput, match=message):
        list(ImageNetSegmentation(tmp_path))
