"""Word-region interactions: which words of a caption go with which parts of an image."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from nibt.core.side import Side
from nibt.data.images import ImageSource
from nibt.data.pair import Caption, Pair, as_list, make_pairs, require_image_text
from nibt.data.units import Grid, Words
from nibt.engine.batches import trace_sides
from nibt.engine.jacobians import PathIntegral, change, narrowed, parts, scores, vectors
from nibt.engine.mismatch import mismatches
from nibt.engine.spec import ExplanationSpec, resolve
from nibt.methods.base import MethodSpec
from nibt.models._loading import load_model
from nibt.models.base import Model
from nibt.progress import OnProgress, Progress, no_progress
from nibt.results.interaction import Interaction, word_indices
from nibt.results.records import MethodRecord
from nibt.torch_modes import plain_torch

TOLERANCE = 0.01
"""Two integrals are multiplied: with few steps, the product may have the wrong sign."""


@plain_torch()
def explain_interactions(
    model: Model | str | Path | nn.Module,
    image: ImageSource | Sequence[ImageSource],
    caption: str | Caption | Sequence[str | Caption],
    *,
    words: str | int | Sequence[str | int] = (),
    variant: str = "default",
    on_progress: OnProgress = no_progress,
    **options: Any,
) -> Interaction | list[Interaction]:
    """Compute which words of a caption go with which parts of an image: a signed table, words x patches.

    Both towers are narrowed as by the method ``nib``, whose options and variants these are; the score is the cosine.
    The sum of the table over all rows is NIB's image map for the change of the caption's embedding. With the rows that
    are no words and no patches it is complete, up to ``Interaction.gap``.

    Unless ``steps``, ``quadrature`` or a variant fix the steps, they are doubled, to 64 at most, until the sum of the
    words' vectors is within ``tolerance`` (0.01) of the change of the caption's embedding, by its length, and the sum
    of each word's map within that share of the strongest word's; None turns this off. Each word costs a forward pass of
    the upper part of the text tower, and a backward pass of that of the image tower.

    Args:
        model: A loaded model, or what ``load_model`` takes.
        image: An image, or a list; lists pair up as in ``explain``.
        caption: A caption, or a list.
        words: Words of the caption that get rows of their own, by their texts or positions from 0. Empty means all.
        variant: A variant of the method ``nib``.
        on_progress: Called after each pair.
        **options: Options of the method ``nib``.

    Raises:
        BadInput: An image or a caption cannot be read, lists differ in length, both are of one kind, or a word does
            not occur in a caption.
        UnknownName: No variant or option has that name.
        BadOption: An option has a value that it cannot have.

    """
    read, many = make_pairs(image, caption)
    pairs = [require_image_text(pair, "explain_interactions") for pair in read]
    model = load_model(model)
    spec = resolve(model, MethodSpec("nib", variant, _with_tolerance(variant, options)))
    answers = []
    for pair in pairs:
        answers.append(_table(spec, pair, as_list(words)))
        on_progress(Progress(len(answers), len(pairs)))
    return answers if many else answers[0]


def _with_tolerance(variant: str, options: dict[str, Any]) -> dict[str, Any]:
    """Add the tolerance, unless the options fix it or the steps."""
    has_steps = variant != "default" or any(name.endswith(("steps", "quadrature", "tolerance")) for name in options)
    return options if has_steps else {**options, "tolerance": TOLERANCE}


def _table(spec: ExplanationSpec, pair: Pair, wanted: Sequence[str | int]) -> Interaction:
    image, text = trace_sides(spec, [pair])
    words, grid = _rows(text, wanted), _grid(image, spec)
    spoken, text_change = _of_words(text, spec, words)
    seen, shown = _of_patches(image, spec, spoken.values)
    kept, product = grid.keep(seen.values), float(shown @ text_change)
    scores = torch.cat([kept, (seen.values.sum(-1) - kept.sum(-1))[:, None]], 1).float().cpu()
    similarity = float(F.cosine_similarity(image.trace.embedding, text.trace.embedding))
    steps = {"image": int(seen.steps.max()), "text": int(spoken.steps.max())}
    method: MethodRecord = {**spec.record["method"], "steps": steps}
    notes = _unmet({"image": seen, "text": spoken}, float(scores.sum()), product)
    return Interaction(
        pair.caption,
        scores,
        grid.bare(),
        words,
        image.inputs.regions[0],
        pair.image.size,
        similarity,
        product,
        method,
        **spec.provenance,
        source=pair.image.source,
        warnings=(
            *filter(None, mismatches(image, text)),
            *spec.warnings,
            *pair.notes,
            *image.inputs.notes[0],
            *text.inputs.notes[0],
            *notes,
        ),
        input=pair.image,
        image_hash=pair.image.digest,
    )


def _rows(text: Side, wanted: Sequence[str | int]) -> Words:
    """Return the words that get rows of their own: the wanted ones, or all."""
    assert text.inputs.words is not None
    words = text.inputs.words[0]
    if not wanted:
        return words
    chosen = tuple(words.words[0][index] for index in word_indices(words.words[0], wanted))
    explained = torch.zeros_like(words.explained)
    explained[[token for word in chosen for token in word.tokens]] = True
    return Words(words.tokens, (chosen,), explained)


def _grid(image: Side, spec: ExplanationSpec) -> Grid:
    units = image.cut(spec.nib("image").layer[0]).units
    assert isinstance(units, Grid)
    return units


def _of_words(text: Side, spec: ExplanationSpec, words: Words) -> tuple[PathIntegral, Tensor]:
    """Return the contribution of each word, and last of all other tokens, to the unit embedding, and its change."""
    spelt = [word.tokens for word in words.words[0]]
    layers = narrowed(text, spec.nib("text"))
    integrals = PathIntegral.mean([vectors(one, parts(spelt, one.rows)) for one in layers])
    return integrals, change(layers)


def _of_patches(image: Side, spec: ExplanationSpec, spoken: Tensor) -> tuple[PathIntegral, Tensor]:
    """Return the score of each image token for each word's vector, and the change of the unit embedding.

    The tolerance of each word is relative to the sum of the strongest word's map.
    """
    layers, integrals = narrowed(image, spec.nib("image")), []
    for one in layers:
        most = (spoken @ one.change).abs().max()
        integrals.append(scores(one, spoken, most.expand(len(spoken))))
    return PathIntegral.mean(integrals), change(layers)


def _unmet(sides: dict[str, PathIntegral], total: float, product: float) -> Iterator[str]:
    """Yield warnings about sums that stayed above the tolerance."""
    for name, integrals in sides.items():
        if integrals.missed.any():
            yield (
                f"the {name} side of the table is above the tolerance after {int(integrals.steps.max())} steps: its "
                f"sum is {total:.3g} (exact: {product:.3g})"
            )
