"""Tests of ``nibt.data.typography``, on text that is drawn at known places."""

import numpy as np
import pytest
from PIL import Image, ImageDraw, ImageFont

from nibt.data.images import read_image
from nibt.data.typography import text_mask
from tests import tiny
from tests.suites import few

WORDS = ("umbrella", "a red bus", "EXIT", "no entry", "Stop", "pizza")
Box = tuple[int, int, int, int]


def with_text(image: Image.Image, word: str, size: int, place: tuple[int, int], ink: str, paper: str = "") -> Box:
    """Draw a word on an image, on paper of a color or on what is there, and return its box."""
    draw, font = ImageDraw.Draw(image), ImageFont.load_default(size)
    left, top, right, bottom = (round(edge) for edge in draw.textbbox(place, word, font))
    if paper:
        draw.rectangle((left - 4, top - 4, right + 4, bottom + 4), paper)
    draw.text(place, word, ink, font)
    return left, top, right, bottom


def covered(mask: np.ndarray, box: Box) -> float:
    left, top, right, bottom = box
    return float(mask[top:bottom, left:right].mean())


@pytest.mark.parametrize("word", WORDS)
@pytest.mark.parametrize("size", few([11, 14, 24, 48], [14, 48]))
@pytest.mark.parametrize(("ink", "paper"), [("black", "white"), ("white", "black"), ("navy", "lightgray")])
def test_text_on_an_even_ground_is_detected_where_it_is(word: str, size: int, ink: str, paper: str) -> None:
    image = Image.new("RGB", (400, 300), paper)
    box = with_text(image, word, size, (70, 100), ink)
    mask = text_mask(image)
    assert mask.shape == (300, 400)
    assert covered(mask, box) > 0.6
    left, top, right, bottom = box
    mask[top - 2 : bottom + 2, left - 2 : right + 2] = False
    assert not mask.any()


@pytest.mark.parametrize("sample", few(["chelsea", "coffee", "rocket"], ["chelsea"]))
def test_labels_on_photographs_are_detected(sample: str) -> None:
    photo = read_image(f"sample:{sample}").pil_image
    before, shares = text_mask(photo), []
    for number, word in enumerate(WORDS):
        image = photo.copy()
        box = with_text(image, word, 28, (40 + 30 * number, 50 + 30 * number), "black", "white")
        shares.append(covered(text_mask(image), box))
    assert np.mean(np.array(shares) > 0.5) >= 5 / 6
    assert before.mean() < 0.02


def even(height: int, width: int) -> np.ndarray:
    return np.full((height, width), 200, np.uint8)


def fence(height: int, width: int) -> np.ndarray:
    pixels = even(height, width)
    for left in range(20, width - 20, 16):
        pixels[30:-30, left : left + 5] = 20
    return pixels


def dots(height: int, width: int) -> np.ndarray:
    down, across = np.mgrid[:height, :width]
    return np.where((down % 24 - 12) ** 2 + (across % 24 - 12) ** 2 < 49, 20, 220).astype(np.uint8)


def ramp(height: int, width: int) -> np.ndarray:
    return np.linspace(0, 255, height * width).reshape(height, width).astype(np.uint8)


@pytest.mark.parametrize("pattern", [even, fence, dots, ramp])
@pytest.mark.parametrize("size", [(120, 90), (300, 400)])
def test_patterns_are_no_text(pattern: object, size: tuple[int, int]) -> None:
    assert not text_mask(Image.fromarray(pattern(*size)).convert("RGB")).any()  # pyright: ignore


@pytest.mark.parametrize("side", [96, 300])
def test_noise_is_hardly_any_text(side: int) -> None:
    draws = np.random.default_rng(0)
    images = [Image.fromarray(draws.integers(0, 256, (side, side, 3), np.uint8)) for _ in range(4)]
    assert np.mean([text_mask(image).mean() for image in images]) < 0.002


@pytest.mark.parametrize("size", [(1, 1), (2, 900), (900, 2), (1300, 40)])
def test_masks_have_the_size_of_any_image(size: tuple[int, int]) -> None:
    width, height = size
    assert text_mask(tiny.image(width, height).pil_image).shape == (height, width)


def test_large_images_are_searched_in_small_copies() -> None:
    image = Image.new("RGB", (1600, 900), "white")
    box = with_text(image, "umbrella", 90, (300, 400), "black")
    assert covered(text_mask(image), box) > 0.6
