"""Detection of pairs that the model rates as no match, whose maps explain a low score.

A pair is no match if its logit is lower, by more than ``MARGIN``, than that of the image with a blank caption or of a
blank image with the caption. A pair that passes may still be no match. ``docs/explanation/reading.md`` has error rates.
A model does not react to a caption that it embeds as it embeds a blank one: the map of any image is noise then.
"""

from collections.abc import Iterator
from typing import NamedTuple
from weakref import WeakKeyDictionary

import torch
import torch.nn.functional as F

from nibt.core.side import Side
from nibt.models.base import ImageTower, Model
from nibt.results.explanation import MISMATCH, NO_REACTION
from nibt.types import Embedding, PerExample

MARGIN = 0.5
"""The least difference between two logits (cosines times the model's scale), chosen by ``benchmarks/mismatch.py``.

At this difference, a softmax over both prefers the blank input by 1.65 to 1.
"""
NEAR_BLANK = 0.05
"""The distance of the unit embeddings of a caption and of a blank one below which the model does not react to it."""
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
    """Yield a warning for each pair that the model rates as no match or cannot rate, and else an empty string.

    The rules compare logits and embeddings of whole captions, so models without them get no warnings.
    """
    if not image.model.has_logits:
        yield from ("" for _ in range(len(image.inputs)))
        return
    margin = MARGIN / image.model.scale
    values = (each.tolist() for each in (reactions(text), *similarities(image, text)))
    for reaction, pair, *blanks in zip(*values, strict=True):
        if reaction < NEAR_BLANK:
            yield f"{NO_REACTION} (similarity {pair:.4f}; with a blank caption {blanks[0]:.4f}): the map is noise"
            continue
        named = zip(("the blank caption", "the blank image"), blanks, strict=True)
        lower = [f"with {name} {value:.3f}" for name, value in named if pair < value - margin]
        yield f"{MISMATCH} (similarity {pair:.3f}; {', '.join(lower)})" if lower else ""


def reactions(text: Side) -> PerExample:
    """Return the distance of the unit embedding of each caption from that of a blank one, in [0, 2]."""
    caption, blank = (F.normalize(each.float(), dim=-1) for each in (text.trace.embedding, text.blank()))
    return (caption - blank).norm(dim=-1)


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
