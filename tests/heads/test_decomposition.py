"""Tests of ``nibt.heads.decomposition``."""

from collections.abc import Callable
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

import nibt
from nibt.errors import BadInput, BadOption
from nibt.heads.decomposition import Decomposition
from nibt.results.attribution import ImageAttribution, TextAttribution
from tests import tiny


@cache
def decomposed(side: Any = "image") -> Decomposition:
    result = nibt.decompose(tiny.model("clip"), tiny.image(), tiny.CAPTIONS[0], side=side)
    assert isinstance(result, Decomposition)
    return result


@pytest.mark.parametrize("side", ["image", "text"])
def test_decomposition_is_saved_and_loaded(side: str, tmp_path: Path) -> None:
    result = decomposed(side)
    result.save(tmp_path / "x.json")
    assert Decomposition.load(tmp_path / "x.json") == result
    assert result.request() != decomposed("text" if side == "image" else "image").request()


def test_head_is_a_map_of_the_image() -> None:
    result = decomposed()
    attribution = result.head(2, 1)
    assert isinstance(attribution, ImageAttribution)
    torch.testing.assert_close(attribution.grid, result.heads[2, 1])
    assert attribution.heatmap().shape == (48, 64)
    outside = float(result.rest[2, 1].abs())
    share = outside / (outside + float(result.heads[2, 1].abs().sum()))
    assert float(attribution.special_token_share) == pytest.approx(share, rel=1e-5)


def test_head_of_a_caption_has_scores_of_words() -> None:
    result = decomposed("text")
    attribution = result.head(1, 0)
    assert isinstance(attribution, TextAttribution)
    scores = result.heads[1, 0]
    for word in attribution.words:
        assert word.score == pytest.approx(float(scores[list(word.tokens)].sum()), abs=1e-7)
    assert (attribution.scores[attribution.special] == 0).all()
    assert float(result.sums[1, 0]) == pytest.approx(float(scores.sum()), abs=1e-6)


def test_strongest_heads_come_first() -> None:
    result = decomposed()
    (layer, head), *_ = result.strongest(3)
    assert float(result.sums[layer, head].abs()) == float(result.sums.abs().max())
    assert len(result.strongest(3)) == 3
    assert f"{layer}.{head} " in repr(result)
    assert "warning: look out" in repr(replace(result, warnings=("look out",)))


@pytest.mark.parametrize("side", ["image", "text"])
def test_picture_has_the_color_of_the_strongest_head(side: str, tmp_path: Path) -> None:
    result = decomposed(side)
    result.save(tmp_path / "x.png")
    with Image.open(tmp_path / "x.png") as picture:
        pixels = np.asarray(picture.convert("RGB")).astype(int)
    (layer, head), *_ = result.strongest(1)
    color = (222, 45, 38) if result.sums[layer, head] > 0 else (33, 113, 220)
    full = (np.abs(pixels - color).sum(-1) < 6).sum()
    assert full >= 22 * 22, "a whole cell"


def test_wrong_head_is_an_error() -> None:
    with pytest.raises(BadOption, match=r"layer must be between 0 and 2, and head between 0 and 2 \(got 3 and 0\)"):
        decomposed().head(3, 0)


@pytest.mark.parametrize(
    ("side", "change", "message"),
    [
        ("image", lambda data: data["perceptrons"].pop(), "rest must have 3 x 3 entries, and perceptrons 4"),
        ("image", lambda data: data["rest"].pop(), "rest must have 3 x 3 entries"),
        ("text", lambda data: data["special"].pop(), "special must have an entry for each token"),
        ("image", lambda data: data.update(side="text"), "special must have|maps must have 1 row"),
        ("image", lambda data: data.update(first=float("nan")), "first"),
    ],
)
def test_damaged_data_are_refused(side: str, change: Callable[[Any], object], message: str) -> None:
    data = decomposed(side).to_json()
    change(data)
    with pytest.raises(BadInput, match=message):
        Decomposition.from_json(data)
