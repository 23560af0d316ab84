"""Tests of pictures of comparisons."""

from dataclasses import replace
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

import nibt
from nibt.cli.console import caption
from nibt.data.images import ImageInput
from nibt.errors import BadInput
from nibt.report.html.view_data import Panel, panel_data
from nibt.report.image.heatmap import Mapped, score_map
from nibt.report.request import shared_word_scale
from nibt.results.attribution import TextAttribution
from nibt.results.notes import NOISE, Note, note_fields
from tests import tiny
from tests.helpers import compare
from tests.suites import few

CAPTIONS = [nibt.Caption(text) for text in tiny.CAPTIONS]


def test_comparison_sides_can_be_drawn_as_heatmaps() -> None:
    answer = compare("clip", tiny.IMAGES[0], tiny.IMAGES[1])
    assert isinstance(answer.first, Mapped)
    assert score_map(answer.second).shape == (30, 90)


def colourful(page: Image.Image) -> bool:
    return bool((np.ptp(np.asarray(page.convert("RGB")).astype(int), axis=-1) > 60).any())


@pytest.mark.parametrize("positive_only", few([False, True], [True]))
def test_draw_of_two_images_puts_them_in_two_columns(positive_only: bool, tmp_path: Path) -> None:
    grey = [ImageInput(Image.new("RGB", size, (128,) * 3), "grey") for size in ((640, 480), (300, 3), (20, 700))]
    for first, second in combinations(grey, 2):
        answer = compare("clip", first, second)
        page = nibt.draw(answer, positive_only)
        column = max(round(460 * image.size[0] / max(image.size)) for image in (first, second))
        assert page.width == max(2 * column + 24, 560) + 48
        assert page.height < 1400
        assert colourful(page)
    answer.save(tmp_path / "x.json")
    with pytest.raises(BadInput, match="no longer there"):
        nibt.draw(nibt.Explanation.load(tmp_path / "x.json"))


def test_draw_of_two_captions_grows_with_their_length() -> None:
    short = nibt.draw(compare("clip", CAPTIONS[0], CAPTIONS[1]))
    long = nibt.draw(compare("clip", CAPTIONS[0], "a cat " * 40))
    assert short.width == long.width == 808
    assert short.height < long.height
    assert colourful(short)


def test_two_images_share_one_scale_and_have_their_colors(texts: Any) -> None:
    answer = compare("clip", tiny.IMAGES[0], tiny.IMAGES[1])
    weak = replace(answer.second, grid=answer.second.grid / 100)
    scaled = replace(answer, sides={"first": answer.first, "second": weak})
    largest = f"for  {float(answer.first.grid.abs().max()):.2g}"
    assert texts(lambda: nibt.draw(scaled)).count(largest) == 2


@pytest.mark.parametrize("kind", ["compare", "against"])
def test_two_captions_share_one_scale_in_every_view(kind: str, texts: Any) -> None:
    """In pictures, terminals and pages, words with equal scores have equal colors."""
    if kind == "compare":
        explanation = compare("clip", *CAPTIONS[:2])
    else:
        against = {"target": "difference", "against": tiny.CAPTIONS[1]}
        explanation = nibt.explain(tiny.model("clip"), tiny.image(), tiny.CAPTIONS[0], **against)
    assert isinstance(explanation, nibt.Explanation)
    name, other = list(explanation.sides)[-2:]
    small = explanation.sides[other]
    assert isinstance(small, TextAttribution)
    halved = tuple(replace(word, score=word.score / 100) for word in small.words)
    scaled = replace(explanation, sides={**explanation.sides, other: replace(small, words=halved)})
    captions = [scaled.sides[name], scaled.sides[other]]
    assert all(isinstance(side, TextAttribution) for side in captions)
    largest = max(abs(word.score) for side in captions for word in side.words)

    assert shared_word_scale(scaled) == largest
    assert texts(lambda: nibt.draw(scaled)).count(f"for  {largest:.2g}") == 2
    backgrounds = {style for span in caption(captions[1], most=largest).spans for style in [span.style.bgcolor]}
    alone = {style for span in caption(captions[1]).spans for style in [span.style.bgcolor]}
    assert backgrounds != alone
    data = panel_data(Panel(scaled), {})
    assert [side["largest"] for side in data["sides"] if side["kind"] == "text"] == [largest] * 2


def test_one_caption_has_its_own_scale() -> None:
    explanation = nibt.explain(tiny.model("clip"), tiny.image(), tiny.CAPTIONS[0])
    assert isinstance(explanation, nibt.Explanation)
    assert shared_word_scale(explanation) is None
    assert not [
        side for side in panel_data(Panel(explanation), {})["sides"] if side["kind"] == "text" and "largest" in side
    ]


def test_two_images_of_a_caption_are_shown_in_their_colors_too() -> None:
    red, green = (ImageInput(Image.new("RGB", (64, 64), color), name) for color, name in (("red", "r"), ("lime", "g")))
    answer = nibt.explain(tiny.model("clip"), red, "a red cat", against_images=green)
    pixels = np.asarray(nibt.draw(answer).convert("RGB"))
    for color in ((255, 0, 0), (0, 255, 0)):
        assert (pixels == color).all(-1).sum() > 10_000


@pytest.mark.parametrize("noisy", [(), ("image",), ("image", "against")])
def test_each_map_that_is_noise_is_pale(noisy: tuple[str, ...]) -> None:
    gray, other = (ImageInput(Image.new("RGB", (64, 64), (value,) * 3), str(value)) for value in (128, 130))
    answer = nibt.explain(tiny.model("clip"), gray, "a red cat", against_images=other)
    grid = torch.tensor([[1.0, 0.0], [0.0, 0.0]])
    sides = {name: side if name == "text" else replace(side, grid=grid) for name, side in answer.sides.items()}
    notes = [Note(NOISE, "noise", name) for name in noisy]
    pixels = np.asarray(nibt.draw(replace(answer, sides=sides, **note_fields(notes))).convert("RGB")).astype(int)
    middle = pixels.shape[1] // 2
    above_words = slice(0, 1050)
    strong = [np.ptp(half[above_words], axis=-1) > 120 for half in (pixels[:, :middle], pixels[:, middle:])]
    maps = [part[620:1000].any() for part in strong]
    assert maps == ["image" not in noisy, "against" not in noisy]
