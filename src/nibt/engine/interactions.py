"""Word-region interactions: which words of a caption go with which parts of an image."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor, nn

from nibt.core.side import Side
from nibt.data.images import ImageSource
from nibt.data.pair import Caption, Pair, as_list, make_pairs, require_image_text
from nibt.data.units import Grid, Words
from nibt.engine.batches import trace_sides
from nibt.engine.jacobians import (
    LayerPath,
    PathIntegral,
    SidePaths,
    any_missed,
    most_steps,
    part_masks,
    scores,
    vectors,
)
from nibt.engine.late_tables import late_table
from nibt.engine.mismatch import mismatches
from nibt.engine.spec import ExplanationSpec, resolve
from nibt.errors import BadOption, Unsupported
from nibt.methods.base import MethodSpec
from nibt.models._loading import load_model
from nibt.models.base import Model
from nibt.progress import OnProgress, Progress, no_progress
from nibt.registry import find
from nibt.results.interaction import Interaction, word_indices
from nibt.results.records import MethodRecord
from nibt.torch_modes import plain_torch

TOLERANCE = 0.01
"""The default tolerance. Two integrals are multiplied, and with few steps the product may have the wrong sign."""


@plain_torch()
def explain_interactions(
    model: Model | str | Path | nn.Module,
    image: ImageSource | Sequence[ImageSource],
    caption: str | Caption | Sequence[str | Caption],
    *,
    words: str | int | Sequence[str | int] = (),
    method: str = "nib",
    variant: str = "default",
    on_progress: OnProgress = no_progress,
    **options: Any,
) -> Interaction | list[Interaction]:
    """Compute which words of a caption go with which parts of an image: a signed table, words x patches.

    The paths of both towers are those of the method ``nib``, and the target is ``cosine``. The sum of the table over
    all words is NIB's map of the image for the change of the caption's embedding. With all special tokens the table is
    complete, up to ``Interaction.gap``.

    Unless ``steps``, ``quadrature`` or a variant is given, the steps are doubled, up to 64, until two gaps are within
    ``tolerance`` (0.01): the gap of the words' vectors, relative to the length of the change of the caption's
    embedding, and the gap of each word's map, relative to that of the word whose map has the largest sum.
    ``tolerance=None`` turns this off. Each word costs a forward pass through the upper layers of the text tower, and a
    backward pass through those of the image tower, per step.

    For models with late interaction, whose similarity is a sum over the tokens of the caption, the row of a word is the
    map of the image for the terms of that word, by any method. The caption is not narrowed, and there is no default
    tolerance.

    Args:
        model: A loaded model, or what ``load_model`` takes.
        image: An image, or a list of images; lists are paired as in ``explain``.
        caption: A caption, or a list of captions.
        words: The words of the caption that get a map, by their texts or their positions from 0. Empty means all.
        method: The method; other models than those with late interaction support ``nib`` only.
        variant: A variant of the method.
        on_progress: Called after each pair with the number of pairs that are done.
        **options: Options of the method.

    Returns:
        An ``Interaction``, or a list of them if ``image`` or ``caption`` is a list.

    Raises:
        BadInput: An image or a caption cannot be read, lists differ in length, a pair is not an image with a caption,
            or a word does not occur in a caption.
        UnknownName: No variant or option has that name.
        BadOption: An option has an invalid value, or the model does not support the method here.

    """
    find("methods", method)
    read, many = make_pairs(image, caption)
    pairs = [require_image_text(pair, "explain_interactions") for pair in read]
    model = load_model(model)
    late = "vectors" in model.text.offers
    if model.similarity.item_ndim > 1 and not late:
        raise Unsupported(
            f"{model.id} compares sets of vectors that are no tokens of the caption, so words have no map: use explain"
        )
    if method != "nib" and not late:
        raise BadOption(f"method must be nib for {model.id}, which has no late interaction (got {method!r})")
    spec = resolve(model, MethodSpec(method, variant, options if late else _with_tolerance(variant, options)))
    answers = []
    for pair in pairs:
        answers.append(_table(spec, pair, as_list(words)))
        on_progress(Progress(len(answers), len(pairs)))
    return answers if many else answers[0]


def _with_tolerance(variant: str, options: dict[str, Any]) -> dict[str, Any]:
    """Add the default tolerance, unless the variant or the options set it or the steps."""
    has_steps = variant != "default" or any(name.endswith(("steps", "quadrature", "tolerance")) for name in options)
    return options if has_steps else {**options, "tolerance": TOLERANCE}


def _table(spec: ExplanationSpec, pair: Pair, wanted: Sequence[str | int]) -> Interaction:
    """Compute the table of one pair."""
    image, text = trace_sides(spec, [pair])
    words = _table_words(text, wanted)
    similarity = float(spec.model.similarity(image.trace.embedding, text.trace.embedding))
    method, notes = spec.record["method"], ()
    if spec.model.similarity.item_ndim > 1:
        scores, grid, product = late_table(spec, image, text, words)
    else:
        scores, grid, product, steps, notes = _path_table(spec, image, text, words)
        method = cast(MethodRecord, {**method, "steps": steps})
    return Interaction(
        pair.caption,
        scores,
        grid,
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


def _path_table(
    spec: ExplanationSpec, image: Side, text: Side, words: Words
) -> tuple[Tensor, Grid, float, dict[str, int], tuple[str, ...]]:
    """Return the product of the contributions of both sides, its grid and exact sum, the steps, and warnings."""
    of_words, text_change = _word_vectors(text, spec, words)
    of_patches, grid, image_change = _patch_scores(image, spec, of_words.values)
    scores, product = of_patches.values.float().cpu(), float(image_change @ text_change)
    steps = {"image": int(of_patches.steps.max()), "text": int(of_words.steps.max())}
    notes = _unmet_tolerances({"image": of_patches, "text": of_words}, float(scores.sum()), product)
    return scores, grid, product, steps, tuple(notes)


def _table_words(text: Side, wanted: Sequence[str | int]) -> Words:
    """Return the words that get a map: the wanted words, or all."""
    assert text.inputs.words is not None
    words = text.inputs.words[0]
    if not wanted:
        return words
    chosen = tuple(words.words[0][index] for index in word_indices(words.words[0], wanted))
    explained = torch.zeros_like(words.explained)
    explained[[token for word in chosen for token in word.tokens]] = True
    return Words(words.tokens, (chosen,), explained)


def _word_vectors(text: Side, spec: ExplanationSpec, words: Words) -> tuple[PathIntegral, Tensor]:
    """Return the contributions of the words to the unit embedding of the caption, and its change.

    The last contribution is that of all other tokens.
    """
    tokens = [word.tokens for word in words.words[0]]
    paths = SidePaths.of(text, spec.nib("text"))
    (integral,) = paths.integrate(lambda layer: vectors(layer, part_masks(tokens, layer.rows)))
    return integral, paths.change


def _patch_scores(image: Side, spec: ExplanationSpec, word_vectors: Tensor) -> tuple[PathIntegral, Grid, Tensor]:
    """Return the scores of the patches for each word's vector, their grid, and the change of the unit embedding.

    The last score of each word is that of all other tokens. The tolerance of each word is relative to the word whose
    map has the largest sum.
    """
    paths, units = SidePaths.of(image, spec.nib("image")), image.cut(spec.nib("image").layer[0]).units
    assert isinstance(units, Grid)

    def integral(layer: LayerPath) -> PathIntegral:
        most = (word_vectors @ layer.change).abs().max()
        return scores(layer, word_vectors, most.expand(len(word_vectors)))

    by_view = paths.integrate(integral)
    kept = [units.keep(view.values) for view in by_view]
    others = torch.stack([view.values.sum(-1) - own.sum(-1) for view, own in zip(by_view, kept, strict=True)]).mean(0)
    patches, grid = paths.blend(kept, units)
    values = torch.cat([patches, others[:, None]], 1)
    return PathIntegral(values, most_steps(by_view), any_missed(by_view)), grid, paths.change


def _unmet_tolerances(sides: dict[str, PathIntegral], total: float, product: float) -> Iterator[str]:
    """Yield a warning for each side whose completeness gap is above the tolerance."""
    for name, integral in sides.items():
        if integral.missed.any():
            yield (
                f"the {name} side of the table is above the tolerance after {int(integral.steps.max())} steps: the "
                f"sum of the table is {total:.3g} (exact: {product:.3g})"
            )
