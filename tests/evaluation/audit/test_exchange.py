"""Tests of ``nibt.evaluation.audit.exchange``, on encoders whose reason is known: they read one place, or one word."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from nibt.data.ground_truth import GroundTruth
from nibt.data.images import ImageInput, Region
from nibt.data.objects import Object
from nibt.data.pair import Pair
from nibt.evaluation.audit.exchange import exchange_beside_objects, exchange_of_words
from nibt.evaluation.maps import Map
from nibt.models.base import Model

pytest.importorskip("scipy", reason="a share has an interval")
pytestmark = pytest.mark.usefixtures("unchecked")  # the encoders below are no models of nibt

COLORS = {"red": (255, 0, 0), "green": (0, 255, 0), "blue": (0, 0, 255)}
TEMPLATES = {"red": "a shiny {}", "green": "one old {}", "blue": "this big {}"}
CELL, SIDE, MANY = 8, 64, 24
CORNER, CENTER = np.s_[:8, :8], np.s_[24:40, 24:40]


@dataclass(frozen=True)
class Encoder:
    """An encoder that embeds what a function reads."""

    read: Callable[[Any], Sequence[float]]

    def group(self, item: Any) -> int:
        return 0

    def prepare(self, items: list[Any]) -> list[Any]:
        return items

    def encode(self, items: list[Any]) -> torch.Tensor:
        return torch.nn.functional.normalize(torch.tensor([self.read(item) for item in items]), dim=-1)


def model(image: Callable[[Any], Any], text: Callable[[Any], Any]) -> Model:
    return SimpleNamespace(  # pyright: ignore[reportReturnType]
        image=Encoder(image), text=Encoder(text), similarity=lambda images, texts: (images * texts).sum(-1)
    )


def color_at(*places: Any) -> Callable[[ImageInput], list[float]]:
    """Return a function that reads the mean color of places."""

    def read(image: ImageInput) -> list[float]:
        pixels = np.array(image.pil_image, np.float32)
        return np.mean([pixels[place].mean((0, 1)) for place in places], axis=0).tolist()

    return read


def color_named(caption: str) -> list[float]:
    return [float(name in caption) for name in COLORS]


def painted(name: str) -> ImageInput:
    """Return a gray image with the color of a name in the corner and in the center."""
    pixels = np.full((SIDE, SIDE, 3), 128, np.uint8)
    pixels[CORNER] = pixels[CENTER] = COLORS[name]
    return ImageInput(Image.fromarray(pixels), name)


NAMES = [list(COLORS)[number % 3] for number in range(MANY)]
MASK = np.zeros((SIDE, SIDE), bool)
MASK[CENTER] = True
PAIRS = [Pair(painted(name), name, (Object(name, None, MASK, ((0, len(name)),)),)) for name in NAMES]
DONORS = [(number + 1) % MANY for number in range(MANY)]
TRUTHS = [GroundTruth(mask=torch.from_numpy(MASK))] * MANY


def image_map(*places: Any) -> Map:
    """Return a map that is 1 at places, and -1 elsewhere."""
    pixels = -np.ones((SIDE, SIDE))
    for place in places:
        pixels[place] = 1
    return Map(pixels[::CELL, ::CELL], region=Region(0, 0, SIDE, SIDE))


MAP = image_map(CORNER, CENTER)
"""Only its cells count, not its scores."""


@pytest.mark.parametrize(
    ("read", "share"),
    [
        pytest.param([CORNER], 1, id="reads the corner"),
        pytest.param([CENTER], 0, id="reads the object"),
        pytest.param([CORNER, CENTER], 1 / 2, id="reads both alike"),
    ],
)
def test_share_of_an_exchange_is_what_the_model_reads(read: list[Any], share: float) -> None:
    exchange = exchange_beside_objects(model(color_at(*read), color_named), PAIRS, DONORS, [MAP] * MANY, TRUTHS)
    assert exchange.share().mean == pytest.approx(share, abs=1e-6)
    assert exchange.values().shape == (MANY,)
    assert exchange.values().mean() == pytest.approx(share, abs=1e-6)


def test_the_images_of_the_user_stay_as_they_are() -> None:
    before = [np.array(pair.image.pil_image) for pair in PAIRS]
    exchange_beside_objects(model(color_at(CORNER), color_named), PAIRS, DONORS, [MAP] * MANY, TRUTHS)
    for pair, pixels in zip(PAIRS, before, strict=True):
        assert np.array_equal(np.array(pair.image.pil_image), pixels)


def test_pairs_without_a_mask_have_no_exchange() -> None:
    reads_corner = model(color_at(CORNER), color_named)
    truths = [GroundTruth(), *TRUTHS[1:]]
    exchange = exchange_beside_objects(reads_corner, PAIRS, DONORS, [MAP] * MANY, truths)
    assert np.isnan(exchange.values()).tolist() == [True, *[False] * (MANY - 1)]
    whole = GroundTruth(mask=torch.ones(SIDE, SIDE, dtype=torch.bool))
    for truth in (GroundTruth(), whole):
        nothing = exchange_beside_objects(reads_corner, PAIRS, DONORS, [MAP] * MANY, [truth] * MANY)
        assert math.isnan(nothing.share().mean)
        assert np.isnan(nothing.values()).all()


def test_a_model_that_prefers_other_captions_has_no_share() -> None:
    def other(caption: str) -> list[float]:
        return np.roll(color_named(caption), 1).tolist()

    exchange = exchange_beside_objects(model(color_at(CORNER), other), PAIRS, DONORS, [MAP] * MANY, TRUTHS)
    assert math.isnan(exchange.share().mean)


def worded(name: str) -> Pair:
    caption = TEMPLATES[name].format(name)
    start = caption.index(name)
    return Pair(painted(name), caption, (Object(name, None, MASK, ((start, start + len(name)),)),))


@pytest.mark.parametrize(("reads", "share"), [("template", 1), ("noun", 0)])
def test_words_that_name_no_object_are_exchanged(reads: str, share: float) -> None:
    def read(caption: str) -> list[float]:
        words = [template.split(" {}")[0] for template in TEMPLATES.values()]
        return [float(word in caption) for word in (words if reads == "template" else COLORS)]

    exchange = exchange_of_words(model(color_at(CORNER), read), [worded(name) for name in NAMES])
    assert exchange.share().mean == pytest.approx(share, abs=1e-6)


def test_captions_of_one_template_have_no_exchange_of_words() -> None:
    assert math.isnan(exchange_of_words(model(color_at(CORNER), color_named), PAIRS).share().mean)
