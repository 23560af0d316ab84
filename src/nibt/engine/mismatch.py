"""Detection of pairs that the model rates as no match, whose maps explain a low score.

A pair is no match if its logit is lower, by more than ``MARGIN``, than that of the image with a blank caption or of a
blank image with the caption. A pair that passes may still be no match. ``docs/explanation/reading.md`` has error rates.
A model does not react to a caption that it embeds as it embeds a blank one: the map of any image is noise then. So is a
map whose scores are far below what the model usually gives to a match.
"""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import NamedTuple
from weakref import WeakKeyDictionary

import torch
import torch.nn.functional as F

from nibt.core.side import Side
from nibt.data.images import read_image, sample_captions
from nibt.engine.encode import encode
from nibt.engine.spec import ExplanationSpec
from nibt.models.base import Model
from nibt.results.attribution import SideAttribution
from nibt.results.explanation import MISMATCH, NEGLIGIBLE, NO_REACTION, WEAK
from nibt.types import Embedding, PerExample

MARGIN = 0.5
"""The least difference between two logits (cosines times the model's scale), chosen by ``benchmarks/mismatch.py``.

At this difference, a softmax over both prefers the blank input by 1.65 to 1.
"""
NEAR_BLANK = 0.05
"""The distance of the unit embeddings of a caption and of a blank one below which the model does not react to it."""
NOISE_SHARE = 0.1
"""The share of the model's usual change of the score below which the scores of a map are noise."""
WEAK_SHARE = 0.25
"""The share of the model's usual change of the similarity below which a match is weak."""
CLEAR = 10.0
"""The difference of logits to a blank image from which a match is never weak, so that nothing has to be measured."""
_KEPT: "WeakKeyDictionary[Model, tuple[tuple, dict[str, Embedding]]]" = WeakKeyDictionary()


class Similarities(NamedTuple):
    """The cosines that the rule compares: of pairs, of images with a blank caption, of a blank image with captions."""

    pair: PerExample
    blank_caption: PerExample
    blank_image: PerExample


def mismatches(image: Side, text: Side) -> Iterator[str]:
    """Yield a warning for each pair that the model rates as a weak or no match or cannot rate; else an empty string.

    The rules compare logits and embeddings of whole captions, so models without them get no warnings.
    """
    if not image.dual_encoder.has_logits:
        yield from ("" for _ in range(len(image.inputs)))
        return
    margin = MARGIN / image.dual_encoder.scale
    values = (each.tolist() for each in (reactions(text), *similarities(image, text)))
    for reaction, pair, *blanks in zip(*values, strict=True):
        if reaction < NEAR_BLANK:
            yield f"{NO_REACTION} (similarity {pair:z.4f}; with a blank caption {blanks[0]:z.4f}): the map is noise"
            continue
        named = zip(("the blank caption", "the blank image"), blanks, strict=True)
        lower = [f"with {name} {value:z.3f}" for name, value in named if pair < value - margin]
        no_match = f"{MISMATCH} (similarity {pair:z.3f}; {', '.join(lower)})"
        yield no_match if lower else _weak(image.dual_encoder, pair - blanks[1])


def _weak(model: Model, change: float) -> str:
    """Return the warning for a similarity that is little above that of a blank image; empty for others.

    A model that does not rate the samples of the package as matches, as one for X-rays may not, has no usual change.
    """
    if model.scale * change >= CLEAR:
        return ""
    usual = usual_change(model)
    if model.scale * usual < 2 * MARGIN or change >= WEAK_SHARE * usual:
        return ""
    if change <= 0:
        return f"{WEAK} the image does not raise the similarity"
    share = f"{100 * change / usual:.2g} %"
    return f"{WEAK} the image raises the similarity by {share} of what a match usually does with this model"


def usual_change(model: Model) -> float:
    """Return by how much the similarity of a match usually exceeds that of a blank image with the caption.

    It is the median over the samples of the package, which embedded models store.
    """
    if "usual_change" in model.defaults:
        return model.defaults["usual_change"]
    compare = model.similarity
    image, text, blank = (_kept(model, name).float() for name in ("image", "text", "blank"))
    return float((compare(image, text) - compare.swapped()(text, blank)).quantile(0.5))


def reactions(text: Side) -> PerExample:
    """Return the distance of the unit embedding of each caption from that of a blank one, in [0, 2].

    Of a set of vectors, it is the largest distance.
    """
    caption, blank = (F.normalize(each.float(), dim=-1) for each in (text.trace.embedding, text.blank()))
    return (caption - blank).norm(dim=-1).reshape(len(caption), -1).amax(1)


def similarities(image: Side, text: Side) -> Similarities:
    """Compute the cosines that the rule compares, for a batch of pairs."""
    seen, caption, compare = image.trace.embedding.float(), text.trace.embedding.float(), image.dual_encoder.similarity
    return Similarities(
        compare(seen, caption),
        compare(seen, text.blank().float()),
        compare.swapped()(caption, _kept(image.dual_encoder, "blank").float()),
    )


def negligible(spec: ExplanationSpec, embedding: Embedding, sides: Sequence[SideAttribution]) -> Iterator[str]:
    """Yield a note for each side whose scores are negligible.

    They are if their absolute values sum to less than ``NOISE_SHARE`` of the model's usual change of the score. It is
    measured only if a sum is below that share of the largest change that is possible. Scores in units of the score are
    needed, and a target that compares with nothing else.
    """
    caption, model = embedding.detach().float(), spec.model
    for side in sides:
        # from the image, on both sides
        score = replace(spec.scores[side.modality], similarity=model.similarity, other=caption)
        in_units = side.path is not None or type(spec.methods[side.modality]).linear
        if score.target.others != "none" or not in_units:
            continue
        ends = [(score(end), model.similarity(end, caption)) for end in (caption, -caption)]
        scores, similarities = (float(high - low) for high, low in zip(*ends, strict=True))
        total = float(side.scores.abs().sum())
        if total >= NOISE_SHARE * abs(scores) / 2:
            continue
        usual = abs(usual_change(model) * scores / similarities)
        if total < NOISE_SHARE * usual:
            share = f"{100 * total / usual:.2g} % of what this model usually gives to a match"
            yield f"{NEGLIGIBLE} the scores of the {side.modality} side add up to {share}"


def _kept(model: Model, name: str) -> Embedding:
    """Return the embeddings of a blank image, or of the package's images or captions, computed once per model."""
    tower = model.image
    key = (model.weights_hash, tower.example.dtype, tower.example.device, torch.get_num_threads())
    stored_key, kept = _KEPT.get(model, (None, {}))
    if stored_key != key:
        kept = {}
        _KEPT[model] = key, kept
    if name not in kept:
        samples = sample_captions()
        kept[name] = (  # the blank image is square, which serves all image sizes
            tower.encode(tower.empty_inputs())
            if name == "blank"
            else encode(model.text, list(samples.values()), 1)
            if name == "text"
            else encode(tower, [read_image(f"sample:{each}") for each in samples], 1)
        )
    return kept[name]
