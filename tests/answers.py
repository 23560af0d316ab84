"""Explanations made by hand, without a model: all that reports need."""

from dataclasses import replace
from typing import Any

import torch
from PIL import Image

from nibt.data.images import ImageInput, Region
from nibt.data.units import Grid, Word, Words
from nibt.results.attribution import Attribution, ImageAttribution, TextAttribution
from nibt.results.explanation import Explanation
from nibt.results.regions import Regions, Rest
from nibt.types import ModelRecord

WHOLE = Region(0.0, 0.0, 90.0, 90.0)
BETWEEN = {
    "name": "cosine",
    "value": 0.5,
    **{name: {"name": "cosine", "value": 0.5} for name in ("first", "second")},
}
PEAK = [[0.0, 0.0, 0.0], [0.0, 0.0, -1.0], [2.0, 0.0, 0.0]]

MODEL: ModelRecord = {
    "id": "x",
    "family": "clip",
    "weights_hash": "0" * 16,
    "configuration_hash": "0" * 16,
    "dtype": "float32",
    "device": "cpu",
    "resize": "model",
    "image_size": None,
}


def answer(scores: list[list[float]], size: tuple[int, int], region: Region, caption: str = "a red cat") -> Explanation:
    """Return an explanation with these scores on the grid, and scores from -1 to 2 on the words."""
    grid = torch.tensor(scores)
    words = tuple(Word(text, (row + 1,)) for row, text in enumerate(caption.split()))
    explained = torch.tensor([False, *[True] * len(words), False])
    text = torch.zeros(len(words) + 2)
    text[1 : len(words) + 1] = torch.linspace(-1, 2, len(words))
    units = Words((("<s>", *caption.split(), "</s>"),), (words,), explained)
    cosine = {"name": "cosine", "value": 0.3}
    image = ImageAttribution(
        source="gray",
        size=size,
        region=region,
        grid=grid,
        special_token_share=torch.tensor(0.25),
        input=ImageInput(Image.new("RGB", size, (128, 128, 128)), "gray"),
    )
    return Explanation(
        {"image": image, "text": TextAttribution.of(Attribution(text, units, torch.tensor(0.5)), caption)},
        similarity=0.3,
        target={**cosine, "options": {}, "image": cosine, "text": cosine},
        method={"name": "nib", "variant": "default", "seed": None, "signed": True},
        model=MODEL,
        versions={},
    )


def two_captions(explanation: Explanation) -> Explanation:
    """Return a comparison of the captions "a" and "b" with the scores of an explanation."""
    sides = {name: replace(explanation.text, caption=text) for name, text in (("first", "a"), ("second", "b"))}
    return replace(explanation, sides=sides, similarity=0.5, target=BETWEEN)


def with_scores(regions: Regions, scores: torch.Tensor, grid: Grid | None = None, **changes: Any) -> Regions:
    """Return regions with other scores, those of no word or patch included, and another grid."""
    unfold = (grid or regions.grid).unfold
    rest = Rest(scores[:-1, -1], unfold(scores[-1, :-1]), scores[-1, -1])
    return replace(regions, table=unfold(scores[:-1, :-1]), rest=rest, **changes)


UNSIGNED = {"name": "gae", "variant": "default", "seed": None, "signed": False}


def with_errors(explanation: Explanation, of_image: list[list[float]], of_words: list[float]) -> Explanation:
    """Return an explanation whose scores are estimates with these errors."""
    text = explanation.text
    words = [replace(word, error=error) for word, error in zip(text.words, of_words, strict=True)]
    errors = torch.zeros(len(text.scores))
    errors[1:-1] = torch.tensor(of_words)
    image = replace(explanation.image, error=torch.tensor(of_image), evaluations=100)
    return replace(
        explanation,
        sides={"image": image, "text": replace(text, words=tuple(words), error=errors, evaluations=100)},
    )
