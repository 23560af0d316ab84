"""Whether the model rates an image and a caption as no match, so that a map of them explains a low score.

The rule: their logit is lower, by ``MARGIN`` or more, than that of the image with a blank caption, or of a blank
image with the caption. It only ever says "no match": a pair that passes need not match. ``docs/reading.md`` has how
often it is wrong.
"""

from collections.abc import Iterator
from dataclasses import replace
from typing import NamedTuple
from weakref import WeakKeyDictionary

import torch
from PIL import Image

from nibt.core.side import Side
from nibt.data.images import ImageInput
from nibt.models.base import Model
from nibt.results.explanation import MISMATCH
from nibt.targets.base import cosine
from nibt.types import Embedding, PerExample

MARGIN = 0.5
"""Of two logits, the model's scale times the cosine: a softmax over both prefers the blank one by 1.65 to 1. Chosen by
``benchmarks/mismatch.py``.
"""
_BLANK = ImageInput(Image.new("RGB", (64, 64)), "blank")  # its color does not matter: what the tower gets is zero
_BLANKS: "WeakKeyDictionary[Model, dict[tuple, Embedding]]" = WeakKeyDictionary()


class Similarities(NamedTuple):
    """Cosines of a batch: of the pairs, of the images with a blank caption, of a blank image with the captions."""

    pair: PerExample
    blank_caption: PerExample
    blank_image: PerExample


def mismatches(image: Side, text: Side) -> Iterator[str]:
    """A warning for each pair of a batch that the model rates as no match, and an empty text for each other pair."""
    margin = MARGIN / image.model.scale
    for pair, *blanks in zip(*(values.tolist() for values in similarities(image, text)), strict=True):
        named = zip(("the blank caption", "the blank image"), blanks, strict=True)
        lower = [f"with {name} {value:.3f}" for name, value in named if pair < value - margin]
        yield f"{MISMATCH} (similarity {pair:.3f}; {', '.join(lower)})" if lower else ""


def similarities(image: Side, text: Side) -> Similarities:
    """What the rule compares, for a batch of pairs."""
    seen, caption = image.trace.embedding.float(), text.trace.embedding.float()
    return Similarities(
        cosine(seen, caption), cosine(seen, text.blank().float()), cosine(caption, _blank_image(image).float())
    )


def _blank_image(image: Side) -> Embedding:
    """The embedding of a blank square image: computed once for a model, since images come in many sizes."""
    model, tower = image.model, image.tower
    key = (model.weights_hash, tower.example.dtype, tower.example.device, torch.get_num_threads())
    known = _BLANKS.setdefault(model, {})
    if key not in known:
        inputs = tower.prepare([_BLANK])
        known.clear()
        known[key] = tower.encode(replace(inputs, values=torch.zeros_like(inputs.values)))
    return known[key]
