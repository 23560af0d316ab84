"""Answers made by hand, without a model: all that reports need."""

import torch
from PIL import Image

from nibt.data.images import ImageInput, Region
from nibt.data.units import Grid, Word, Words
from nibt.results.attribution import Attribution
from nibt.results.explanation import Explanation

WHOLE = Region(0.0, 0.0, 90.0, 90.0)
BETWEEN = {
    "target": "cosine",
    "value": 0.5,
    **{name: {"target": "cosine", "value": 0.5} for name in ("first", "second")},
}
PEAK = [[0.0, 0.0, 0.0], [0.0, 0.0, -1.0], [2.0, 0.0, 0.0]]


def answer(scores: list[list[float]], size: tuple[int, int], region: Region, caption: str = "a red cat") -> Explanation:
    grid = torch.tensor(scores)
    words = tuple(Word(text, (row + 1,)) for row, text in enumerate(caption.split()))
    explained = torch.tensor([False, *[True] * len(words), False])
    text = torch.zeros(len(words) + 2)
    text[1 : len(words) + 1] = torch.linspace(-1, 2, len(words))
    units = Words((("<s>", *caption.split(), "</s>"),), (words,), explained)
    image = ImageInput(Image.new("RGB", size, (128, 128, 128)), "grey")
    return Explanation(
        caption,
        Attribution(grid.flatten(), Grid(*grid.shape), torch.tensor(0.25)),
        Attribution(text, units, torch.tensor(0.5)),
        region,
        size,
        0.3,
        {
            "target": "cosine",
            "value": 0.3,
            "image": {"target": "cosine", "value": 0.3},
            "text": {"target": "cosine", "value": 0.3},
        },
        {"name": "nib", "variant": "default"},
        {"id": "x"},
        {},
        "grey",
        (),
        (),
        image,
    )
