"""Tests of ``nibt.preprocessing.images``."""

from dataclasses import asdict
from typing import Any

import numpy as np
import pytest
import torch
from open_clip.transform import PreprocessCfg, image_transform_v2
from PIL import Image
from torch import Tensor
from transformers import CLIPImageProcessor, SiglipImageProcessor

from nibt.data.images import ImageInput
from nibt.errors import Unsupported
from nibt.preprocessing import hugging_face
from nibt.preprocessing import open_clip as own
from nibt.preprocessing.images import Preparation, Resize
from tests import tiny

EDGE = 40


SHAPES = [(400, 300), (300, 400), (401, 299), (320, 320), (800, 200), (200, 800), (30, 20), (20, 30)]


RIBBONS = [(2000, 10), (10, 2000), (1, 1), (1, 500), (20000, 3), (3, 20000)]


def ramps(width: int, height: int) -> ImageInput:
    """Return an image whose red grows from left to right and whose green grows downward: a color is a position."""
    pixels = np.zeros((height, width, 3), np.uint8)
    pixels[..., 0] = np.linspace(0, 255, width)[None]
    pixels[..., 1] = np.linspace(0, 255, height)[:, None]
    pixels[..., 2] = 255
    return ImageInput(Image.fromarray(pixels), "ramps")


def crop_of_hugging_face(resize: str | None = None) -> Preparation:
    processor = CLIPImageProcessor(
        size={"shortest_edge": EDGE}, crop_size={"height": EDGE, "width": EDGE}, do_normalize=False
    )
    return hugging_face.image_preparation(processor, resize, None, EDGE, 8)


def squash_of_hugging_face() -> Preparation:
    processor = SiglipImageProcessor(size={"height": EDGE, "width": EDGE}, do_normalize=False)
    return hugging_face.image_preparation(processor, None, None, EDGE, 8)


def of_open_clip(way: str, size: Any = EDGE, resize: str | None = None) -> Preparation:
    config = PreprocessCfg(size=size, mean=(0.0,) * 3, std=(1.0,) * 3, resize_mode=way)
    return own.image_preparation(asdict(config), image_transform_v2(config, is_train=False), resize, None, 8)


WAYS = {
    "crop of Hugging Face": crop_of_hugging_face,
    "squash of Hugging Face": squash_of_hugging_face,
    "whole of Hugging Face": lambda: crop_of_hugging_face("whole"),
    "crop of OpenCLIP": lambda: of_open_clip("shortest"),
    "oblong crop of OpenCLIP": lambda: of_open_clip("shortest", (32, 56)),
    "squash of OpenCLIP": lambda: of_open_clip("squash"),
    "padded of OpenCLIP": lambda: of_open_clip("longest"),
    "whole of OpenCLIP": lambda: of_open_clip("shortest", resize="whole"),
}


every_way = pytest.mark.parametrize("way", WAYS)


def seen(pixels: Tensor, width: int, height: int) -> tuple[float, float, float, float]:
    """Return left, top, right and bottom of the visible part, read from the colors of a row and a column in the middle.

    A line is fitted to each ramp away from its ends, so that neither padding nor clamping counts.
    """
    edges = []
    for channel, extent in ((0, width), (1, height)):
        ramp = pixels[channel].mean(1 - channel) if channel else _row(pixels)
        ramp = _column(pixels) if channel else ramp
        places = torch.arange(len(ramp)) + 0.5
        # color c of a ramp of n pixels is at the middle of pixel c (n - 1)
        origin = ramp * (extent - 1) + 0.5
        good = (ramp > 0.1) & (ramp < 0.9)
        slope, offset = np.polyfit(places[good].numpy(), origin[good].numpy(), 1)
        edges.append((offset, offset + slope * len(ramp)))
    (left, right), (top, bottom) = edges
    return left, top, right, bottom


def _row(pixels: Tensor) -> Tensor:
    return pixels[0, pixels.shape[1] // 2]


def _column(pixels: Tensor) -> Tensor:
    return pixels[1, :, pixels.shape[2] // 2]


@every_way
@pytest.mark.parametrize("shape", SHAPES)
def test_region_is_the_part_that_was_seen(way: str, shape: tuple[int, int]) -> None:
    preparation, image = WAYS[way](), ramps(*shape)
    pixels = preparation.seen(image)[0]
    assert pixels.shape[1:] == preparation.resize.size(shape)[::-1]
    region = preparation.resize.region(image.size)
    left, top, right, bottom = seen(pixels, *shape)
    cell = max(region.width / pixels.shape[2], region.height / pixels.shape[1])
    near = pytest.approx
    assert (left, top) == near((region.left, region.top), abs=1.2 * cell + 0.01 * max(shape))
    assert (right, bottom) == near(
        (region.left + region.width, region.top + region.height), abs=1.2 * cell + 0.01 * max(shape)
    )


@every_way
@pytest.mark.parametrize("shape", [(400, 300), (300, 400), (800, 200)])
def test_notes_say_what_was_cropped(way: str, shape: tuple[int, int]) -> None:
    preparation, image = WAYS[way](), ramps(*shape)
    region = preparation.resize.region(image.size)
    cut = region.width < 0.99 * shape[0] or region.height < 0.99 * shape[1]
    assert any("cropped" in note for note in preparation.seen(image)[2]) == cut
    assert cut == ("crop" in way)


@every_way
@pytest.mark.parametrize("shape", RIBBONS)
def test_narrow_images_need_no_large_intermediate(
    way: str, shape: tuple[int, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    largest = watched_resize(monkeypatch)
    preparation, image = WAYS[way](), ramps(*shape)
    pixels = preparation.seen(image)[0]
    assert pixels.shape[1:] == preparation.resize.size(shape)[::-1]
    assert pixels.isfinite().all()
    region = preparation.resize.region(image.size)
    assert region.width > 0
    assert region.height > 0
    assert max(largest, default=0) <= 100 * 56 * 56


def watched_resize(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Record the areas of all images that are resized."""
    areas: list[int] = []
    by_pillow, by_torch = Image.Image.resize, torch.nn.functional.interpolate

    def resize(image: Image.Image, size: Any, *args: Any, **kwargs: Any) -> Image.Image:
        areas.append(size[0] * size[1])
        return by_pillow(image, size, *args, **kwargs)

    def interpolate(tensor: Tensor, size: Any = None, *args: Any, **kwargs: Any) -> Tensor:
        answer = by_torch(tensor, size, *args, **kwargs)
        areas.append(answer.shape[-1] * answer.shape[-2])
        return answer

    monkeypatch.setattr(Image.Image, "resize", resize)
    monkeypatch.setattr(torch.nn.functional, "interpolate", interpolate)
    return areas


@pytest.mark.parametrize("way", ["crop of Hugging Face", "crop of OpenCLIP"])
@pytest.mark.parametrize("shape", [(410, 40), (40, 410), (999, 100), (411, 41)])
def test_trimming_does_not_change_the_pixels(way: str, shape: tuple[int, int]) -> None:
    """Trimming before the resize must not change what is visible."""
    preparation, image = WAYS[way](), tiny.image(*shape)
    assert preparation.resize.strip_box(shape) is not None
    difference = (preparation.seen(image)[0] - preparation.process(image.pil_image)).abs()
    assert difference.mean() < 0.02
    assert difference[:, 4:-4, 4:-4].median() < 0.01


def test_whole_keeps_aspect_and_area() -> None:
    resize = Resize("whole", 224, 224, multiple=16)
    for shape in [(400, 300), (300, 400), (1000, 250), (50, 50)]:
        width, height = resize.size(shape)
        assert width % 16 == height % 16 == 0
        assert width * height == pytest.approx(224 * 224, rel=0.15)
        assert width / height == pytest.approx(shape[0] / shape[1], rel=0.15)


def test_image_size_changes_the_crop() -> None:
    processor = CLIPImageProcessor(do_normalize=False)
    preparation = hugging_face.image_preparation(processor, None, 48, 224, 16)
    image = ramps(400, 300)
    assert preparation.seen(image)[0].shape == (3, 48, 48)
    region = preparation.resize.region(image.size)
    assert (region.left, region.top, region.width, region.height) == (50, 0, 300, 300)


def test_processor_without_crop_and_fixed_size_is_rejected() -> None:
    processor = CLIPImageProcessor(size={"shortest_edge": 40}, do_center_crop=False)
    with pytest.raises(Unsupported, match="must crop or resize to a fixed size"):
        hugging_face.image_preparation(processor, None, None, 40, 8)
