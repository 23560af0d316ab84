"""Detection of pairs that the model rates as no match, whose maps explain a low score.

A pair is no match if its logit is lower, by more than ``MARGIN``, than that of the image with a blank caption or of a
blank image with the caption. A pair that passes may still be no match. ``docs/explanation/reading.md`` has error rates.
"""

from collections.abc import Iterator
from typing import NamedTuple
from weakref import WeakKeyDictionary

import torch

from nibt.core.side import Side
from nibt.models.base import ImageTower, Model
from nibt.results.explanation import MISMATCH
from nibt.types import Embedding, PerExample

MARGIN = 0.5
"""The least difference between two logits (cosines times the model's scale), chosen by ``benchmarks/mismatch.py``.

At this difference, a softmax over both prefers the blank input by 1.65 to 1.
"""
_BLANKS: "WeakKeyDictionary[Model, dict[tuple, Embedding]]" = WeakKeyDictionary()


class Similarities(NamedTuple):
    """The cosines of a batch that the rule compares.

    Attributes:
        pair: The cosines of the pairs.
        blank_caption: The cosines of the images with a blank caption.
        blank_image: The cosines of a blank image with the captions.

    """

    pair: PerExample
    blank_caption: PerExample
    blank_image: PerExample


def mismatches(image: Side, text: Side) -> Iterator[str]:
    """Yield a warning for each pair of a batch that the model rates as no match, and an empty string for the others.

    The rule compares logits, so models without them get no warnings.
    """
    if not image.model.has_logits:
        yield from ("" for _ in range(len(image.inputs)))
        return
    margin = MARGIN / image.model.scale
    for pair, *blanks in zip(*(values.tolist() for values in similarities(image, text)), strict=True):
        named = zip(("the blank caption", "the blank image"), blanks, strict=True)
        lower = [f"with {name} {value:.3f}" for name, value in named if pair < value - margin]
        yield f"{MISMATCH} (similarity {pair:.3f}; {', '.join(lower)})" if lower else ""


def similarities(image: Side, text: Side) -> Similarities:
    """Compute the cosines that the rule compares, for a batch of pairs."""
    seen, caption, compare = image.trace.embedding.float(), text.trace.embedding.float(), image.model.similarity
    return Similarities(
        compare(seen, caption),
        compare(seen, text.blank().float()),
        compare.swapped()(caption, _blank_image(image).float()),
    )


def _blank_image(image: Side) -> Embedding:
    """Return the embedding of a blank square image, which is computed once per model and serves all image sizes."""
    model, tower = image.model, image.tower
    assert isinstance(tower, ImageTower)
    key = (model.weights_hash, tower.example.dtype, tower.example.device, torch.get_num_threads())
    known = _BLANKS.setdefault(model, {})
    if key not in known:
        known.clear()
        known[key] = tower.encode(tower.empty_inputs())
    return known[key]
