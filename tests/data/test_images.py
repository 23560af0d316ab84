"""Tests of ``nibt.data.images``."""

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from nibt.data.images import MOST_PIXELS, is_url, read_image, sample_captions, samples
from nibt.datasets.scenes import Scenes
from nibt.errors import BadInput, NibtError


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("https://a.b/c.png", True),
        ("HTTP://a.b", True),
        ("s3://bucket/x.png", True),
        ("data:image/png;base64,xx", True),
        ("photo.png", False),
        ("C:\\photo.png", False),
        ("a cat: sitting", False),
        ("sample:chelsea", False),
    ],
)
def test_is_url_distinguishes_urls_from_paths(text: str, expected: bool) -> None:
    assert is_url(text) is expected


RAMP = np.linspace(0, 255, 64).astype(np.uint8)[None].repeat(16, 0)  # dark on the left, light on the right


def saved(folder: Path, image: Image.Image, name: str, **options: object) -> Path:
    path = folder / name
    image.save(path, **options)
    return path


def pixels(source: object) -> np.ndarray:
    image = read_image(source)  # pyright: ignore
    assert image.pil_image.mode == "RGB"
    return np.asarray(image.pil_image).astype(int)


def test_gray_images_of_any_depth_have_the_same_tones(tmp_path: Path) -> None:
    eight = pixels(saved(tmp_path, Image.fromarray(RAMP), "8.png"))
    sixteen = pixels(saved(tmp_path, Image.fromarray(RAMP.astype(np.uint16) * 257), "16.png"))
    tiff = pixels(saved(tmp_path, Image.fromarray(RAMP.astype(np.uint16) * 257), "16.tif"))
    wide = pixels(saved(tmp_path, Image.fromarray(RAMP.astype(np.int32)), "32.tif"))
    shares = pixels(saved(tmp_path, Image.fromarray(RAMP.astype(np.float32) / 255), "float.tif"))
    for other in (sixteen, tiff, wide, shares):
        assert np.abs(other - eight).max() <= 1
    assert eight[0, 0].tolist() == [0, 0, 0]
    assert eight[0, -1].tolist() == [255, 255, 255]


@pytest.mark.parametrize(
    ("mode", "name", "slack"),
    [
        ("1", "x.png", 0),
        ("L", "x.png", 1),
        ("P", "x.png", 60),
        ("CMYK", "x.jpg", 12),
        ("CMYK", "x.tif", 3),
        ("YCbCr", "x.jpg", 8),
        ("LA", "x.png", 1),
        ("RGBA", "x.png", 1),
    ],
)
def test_read_image_keeps_tones_in_every_mode(tmp_path: Path, mode: str, name: str, slack: int) -> None:
    image = Image.fromarray(RAMP).convert("RGB").convert(mode)
    actual = pixels(saved(tmp_path, image, name))
    assert actual[:, 0].max() <= slack
    assert actual[:, -1].min() >= 255 - slack


@pytest.mark.parametrize("mode", ["RGBA", "LA", "P"])
def test_read_image_puts_transparency_on_white(tmp_path: Path, mode: str) -> None:
    layer = Image.new("RGBA", (8, 8), (0, 0, 0, 0))
    layer.paste((200, 200, 200, 255), (0, 0, 4, 8))
    if mode == "P":
        image = Image.new("P", (8, 8), 1)
        image.putpalette([200, 200, 200, 0, 0, 0])
        image.paste(0, (0, 0, 4, 8))
        path = saved(tmp_path, image, "x.png", transparency=1)
    else:
        path = saved(tmp_path, layer.convert(mode), "x.png")
    image = read_image(path)
    assert image.pil_image.getpixel((0, 0)) == (200, 200, 200)
    assert image.pil_image.getpixel((7, 0)) == (255, 255, 255)
    assert image.notes == ("transparent parts were replaced by white",)


@pytest.mark.parametrize("turned", range(1, 9))
def test_read_image_turns_images_upright(tmp_path: Path, turned: int) -> None:
    upright = Image.new("RGB", (20, 10), "black")
    upright.paste((255, 0, 0), (0, 0, 5, 5))  # red in the upper left corner
    undo = {
        2: Image.Transpose.FLIP_LEFT_RIGHT,
        3: Image.Transpose.ROTATE_180,
        4: Image.Transpose.FLIP_TOP_BOTTOM,
        5: Image.Transpose.TRANSPOSE,
        6: Image.Transpose.ROTATE_90,
        7: Image.Transpose.TRANSVERSE,
        8: Image.Transpose.ROTATE_270,
    }.get(turned)
    stored = upright if undo is None else upright.transpose(undo)
    tags = Image.Exif()
    tags[0x0112] = turned
    path = saved(tmp_path, stored, "x.png", exif=tags)
    image = read_image(path)
    assert image.size == (20, 10)
    assert image.pil_image.getpixel((1, 1)) == (255, 0, 0)


def test_read_image_takes_the_first_frame(tmp_path: Path) -> None:
    frames = [Image.new("RGB", (8, 8), color) for color in ("red", "blue", "green")]
    path = saved(tmp_path, frames[0], "x.gif", save_all=True, append_images=frames[1:])
    image = read_image(path)
    assert image.pil_image.getpixel((4, 4)) == (255, 0, 0)
    assert image.notes == ("the image has 3 frames: the first is used",)


def test_read_image_leaves_the_images_of_the_caller_at_their_frame(tmp_path: Path) -> None:
    frames = [Image.new("RGB", (8, 8), color) for color in ("red", "blue", "green")]
    with Image.open(saved(tmp_path, frames[0], "x.gif", save_all=True, append_images=frames[1:])) as opened:
        opened.seek(1)
        image = read_image(opened)
        assert opened.tell() == 1
    assert image.pil_image.getpixel((4, 4)) == (0, 0, 255)
    assert image.notes == ("the image has 3 frames: number 2 is used",)


@pytest.mark.parametrize("size", [(1, 1), (4000, 3), (3, 4000)])
def test_read_image_takes_extreme_sizes(tmp_path: Path, size: tuple[int, int]) -> None:
    assert read_image(saved(tmp_path, Image.new("RGB", size, "red"), "x.png")).size == size


def test_read_image_takes_arrays_and_tensors() -> None:
    color = np.stack([RAMP, RAMP // 2, RAMP // 4], -1)
    for source in (
        color,
        color / 255,
        *(color.astype(kind) for kind in (np.int16, np.uint16, np.int32, np.int64, np.uint64)),
        torch.from_numpy(color).permute(2, 0, 1),
        torch.from_numpy(color).permute(2, 0, 1).long(),
        torch.from_numpy(color).permute(2, 0, 1).float() / 255,
        Image.fromarray(color),
    ):
        assert np.abs(pixels(source) - color).max() <= 1
    for gray in (RAMP, *(Image.fromarray(RAMP).convert(mode) for mode in ("I", "F"))):
        assert np.abs(pixels(gray) - RAMP[..., None]).max() == 0
    assert np.abs(pixels(Image.fromarray(RAMP.astype(np.uint16) * 257)) - RAMP[..., None]).max() == 0
    assert pixels(RAMP[..., None] > 100).max() == 255


@pytest.mark.parametrize(
    ("source", "message"),
    [
        (np.full((4, 4, 3), np.nan), "NaN"),
        (torch.full((3, 4, 4), torch.inf), "infinite"),
        (np.full((4, 4, 3), 7.0), r"in \[0, 1\] \(got 7 to 7\)"),
        (np.full((4, 4, 3), -1, np.int8), r"in \[0, 255\] \(got -1 to -1\)"),
        (RAMP.astype(np.uint16) * 257, r"in \[0, 255\] \(got 0 to 65535\)"),
        (Image.fromarray(RAMP.astype(np.int32) * 257), r"in \[0, 255\] \(got 0 to 65535\)"),
        (Image.fromarray(RAMP - np.float32(1)), r"in \[0, 255\] \(got -1 to 254\)"),
        (np.zeros((4, 4, 2)), r"got \(4, 4, 2\)"),
        (torch.zeros(2, 3, 4, 4), "must have the shape"),
        (np.zeros((0, 4, 3)), "got"),
    ],
)
def test_read_image_rejects_bad_arrays(source: object, message: str) -> None:
    with pytest.raises(BadInput, match=message):
        read_image(source)  # pyright: ignore


def bad_files(folder: Path) -> dict[str, Path]:
    whole = saved(
        folder, Image.fromarray(np.random.default_rng(0).integers(0, 255, (64, 64, 3), np.uint8)), "whole.jpg"
    )
    (folder / "truncated.jpg").write_bytes(whole.read_bytes()[:1500])
    (folder / "empty.jpg").write_bytes(b"")
    (folder / "text.jpg").write_text("this is no image")
    png = saved(folder, Image.new("RGB", (64, 64)), "whole.png").read_bytes()
    (folder / "broken.png").write_bytes(png[:40] + bytes(20) + png[60:])
    (folder / "folder.jpg").mkdir()
    # pixels of one bit: a small file, and 300 MB as RGB
    saved(folder, Image.new("1", (10_000, 10_000)), "huge.png")
    return {
        "truncated": folder / "truncated.jpg",
        "0 bytes": folder / "empty.jpg",
        "not an image": folder / "text.jpg",
        "broken": folder / "broken.png",
        "is a folder": folder / "folder.jpg",
        "no such file": folder / "none.jpg",
        f"{MOST_PIXELS:,}": folder / "huge.png",
    }


def test_read_image_rejects_bad_files(tmp_path: Path, recwarn: pytest.WarningsRecorder) -> None:
    for summary, path in bad_files(tmp_path).items():
        with pytest.raises(BadInput) as caught:
            read_image(path)
        assert summary in str(caught.value), str(caught.value)


def test_read_image_knows_samples() -> None:
    assert "chelsea" in samples()
    for name in samples():
        assert min(read_image(f"sample:{name}").size) >= (128 if name == "scene" else 300)
    with pytest.raises(NibtError, match="Did you mean 'chelsea'"):
        read_image("sample:chelsee")


@pytest.mark.parametrize(
    "image", [torch.linspace(-2.1, 2.6, 60).reshape(3, 4, 5), np.linspace(-1, 1, 20).reshape(4, 5)]
)
def test_normalized_images_are_named(image: Any) -> None:
    with pytest.raises(BadInput, match=r"as after a mean and a standard deviation were applied\): give the image"):
        read_image(image)
    with pytest.raises(BadInput, match=r"-90 to 0\): scale the values"):
        read_image(90 * image.clip(-1, 0))


def test_wrong_shapes_are_those_of_the_caller() -> None:
    for shape in ((5, 10, 12), (1, 5, 10, 12), (30, 45, 3)):
        with pytest.raises(BadInput, match=re.escape(f"(got {shape})")):
            read_image(torch.zeros(shape))


def test_drawn_sample_is_an_item_of_the_data_set() -> None:
    pair = Scenes(count=1, seed=5, fewest=3, most=3, named="all")[0]
    assert np.array_equal(read_image("sample:scene").pil_image, pair.image.pil_image)
    assert sample_captions()["scene"] == pair.caption
