"""Regions: which words of a caption go with which parts of an image.

The table of a pair is that of ``Method.table`` or, for models with late interaction, from maps: MaxSim is a sum over
the tokens of a query, so the row of a word is the map of an image for the terms of that word's tokens, by any method.
"""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import cast

import torch

from nibt.core.side import Side
from nibt.data.images import ImageSource
from nibt.data.pair import Caption, Pair, as_list, make_pairs
from nibt.data.units import Words, WordScore, cells_of
from nibt.engine.batches import check_words, trace_sides
from nibt.engine.explanations import LARGE_GAP, NOISE_SHARE, mismatches, usual_change
from nibt.engine.reactions import word_notes
from nibt.engine.spec import ExplanationSpec, Request, resolve
from nibt.errors import Unsupported
from nibt.methods._tables import image_maps, sum_text, with_other_tokens
from nibt.methods._unit_vectors import AT_ONCE, part_masks
from nibt.methods._vectors import TableScores
from nibt.methods.base import Method
from nibt.models._loading import ModelSource, load_model
from nibt.models.base import Model
from nibt.progress import OnProgress, Progress, reporter
from nibt.registry import MethodSpec
from nibt.results.attribution import image_fields
from nibt.results.explanation import NEGLIGIBLE
from nibt.results.notes import NO_REACTION, NOISE, Note, note_fields
from nibt.results.records import MethodRecord
from nibt.results.regions import Regions, word_indices
from nibt.torch_modes import plain_torch


@plain_torch()
def regions(
    model: ModelSource,
    image: ImageSource | Sequence[ImageSource],
    caption: str | Caption | Sequence[str | Caption],
    method: str | MethodSpec | Method = "nib",
    *,
    words: str | int | Sequence[str | int] = (),
    variant: str | None = None,
    on_progress: OnProgress | None = None,
    **options: object,
) -> Regions | list[Regions]:
    """Compute the region of each word of a caption in an image: a signed table, words x patches.

    The target is ``cosine``. With a method that is linear in it (``nib``, ``integrated_gradients``, ``banzhaf``,
    ``shapley``, ``occlusion``, ``rise``), each patch and each word has a vector, and the table has their products. With
    a method that is complete, the table is complete too, up to ``Regions.gap``. ``fixlip`` fits the table to coalitions
    of both sides. With any other method, the image is explained for captions with subsets of the words, and an entry is
    the Shapley value of the word for the score of the patch. It is exact for up to ten words.

    For ``nib``, unless ``steps``, ``quadrature`` or a variant is given, steps are added, up to 65, until two gaps are
    within ``tolerance`` (0.01): the gap of the words' vectors, relative to the length of the change of the caption's
    embedding, and the gap of each word's map, relative to that of the word whose map has the largest sum.
    ``tolerance=None`` turns this off. Each word costs a backward pass per step through the layers of each tower above
    the explained one. Linear methods without a path cost their forward passes of both towers, whatever the number of
    words. Methods that are not linear cost those of the maps for subsets of the words.

    For models with late interaction, whose similarity is a sum over the tokens of the caption, the row of a word is the
    map of the image for the terms of that word, by any method. Only the hidden states of the image have a path, and
    there is no default tolerance.

    Args:
        model: A loaded model, or what ``load_model`` takes.
        image: An image, or a list of images; lists are paired as in ``explain``.
        caption: A caption, or a list of captions.
        method: The method.
        words: The words of the caption that get a map, by their texts or their positions from 0. Empty means all.
        variant: A variant of the method; None means that of its text, or ``default``.
        on_progress: Called after each pair with the number of pairs that are done.
        **options: Options of the method, such as ``tolerance``.

    Returns:
        A ``Regions``, or a list of them if ``image`` or ``caption`` is a list.

    Raises:
        BadInput: An image or a caption cannot be read, lists differ in length, a pair is not an image with a caption,
            or a word does not occur in a caption.
        UnknownName: No method, variant or option has that name.
        BadOption: An option has an invalid value, or the model has too many units for the method.
        Unsupported: The model's words have no map, or it lacks what the method needs.

    Examples:
        >>> import nibt
        >>> table = nibt.regions("scenes", "sample:scene", "a cat and a hamburger")
        >>> table.for_words("hamburger").shape  # rows x columns, signed
        torch.Size([24, 24])
    """
    # names are checked before a model is loaded
    report = reporter(on_progress)
    method_spec = MethodSpec.of(method, variant, options)
    requested = make_pairs(image, caption, "regions")

    spec = resolve_regions(load_model(model), method_spec)
    check_words(spec.model, requested.pairs)

    tables = []
    for pair in requested.pairs:
        tables.append(explain_pair(spec, pair, as_list(words))[0])
        report(Progress(len(tables), len(requested.pairs)))

    return requested.as_requested(tables)


@plain_torch()
def resolve_regions(model: Model, method: MethodSpec, seed: int | None = None) -> ExplanationSpec:
    """Resolve a request for tables, so that every pair is explained in the same way."""
    if model.is_classifier:
        raise Unsupported(
            f"{model.id} is a classifier, whose texts are classes without words of their own: use explain, which gives "
            "the map of a class"
        )

    if model.is_fused:
        raise Unsupported(
            f"{model.id} reads the image and the text in one network, so a word has no map of its own: use explain"
        )

    late = "vectors" in model.text.offers
    if model.similarity.item_ndim > 1 and not late:
        raise Unsupported(
            f"{model.id} compares sets of vectors that are no tokens of the caption, so words have no map: use explain"
        )

    # whoever sets how the path is integrated, on either side, gets no tolerance beside it
    tolerance = method.method_class.table_tolerance
    sets_steps = any(name.endswith(("steps", "quadrature", "tolerance")) for name in method.options)
    plain = method.instance is None and method.variant == "default" and not sets_steps
    if tolerance is not None and plain and not late:
        method = replace(method, options={**method.options, "tolerance": tolerance})
    return resolve(model, Request(method, seed=seed))


@plain_torch()
def explain_pair(spec: ExplanationSpec, pair: Pair, wanted: Sequence[str | int]) -> tuple[Regions, Side, Side]:
    """Compute the table of one pair, and return it with the image side and the text side."""
    image, text = trace_sides(spec, [pair])
    words = _table_words(text, wanted)
    similarity = float(spec.model.similarity(image.trace.embedding, text.trace.embedding))
    method = spec.methods["image"]
    of_text = spec.methods["text"]
    method.check_amounts("tables and vectors")

    late = spec.model.similarity.item_ndim > 1
    table = _late_table(spec.model, method, image, text, words) if late else method.table(image, text, words, of_text)
    steps = {} if table.steps is None else {"steps": dict(table.steps)}

    no_match = next(mismatches(image, text))
    rows = [WordScore(word.text, 0.0, word.tokens) for word in words.words[0]]
    notes: list[Note | str] = [*filter(None, [no_match]), *spec.warnings, *pair.notes]
    notes += [*image.inputs.notes[0], *text.inputs.notes[0], *table.notes]
    if late:
        notes += _gap_notes(table, vars(method).get("tolerance") or LARGE_GAP)
    elif table.steps is not None and not table.notes:  # a note on the tolerance of a side says it, too
        notes += _gap_notes(table, LARGE_GAP)
    if no_match is None or no_match.code != NO_REACTION:
        notes += [*_negligible_table(spec, table), *word_notes(text, 0, rows)]

    regions = Regions.of(
        table.scores,
        table.grid,
        words,
        caption=pair.caption,
        region=image.inputs.regions[0],
        **image_fields(pair.image),
        similarity=similarity,
        product=table.product,
        method=cast(MethodRecord, {**spec.record["method"], **steps}),
        **spec.provenance,
        **note_fields(notes),
    )
    return regions, image, text


def _negligible_table(spec: ExplanationSpec, table: TableScores) -> Iterator[Note]:
    """Yield a note if the map of all words is noise, as ``negligible`` does for explanations."""
    path = spec.methods["image"].category == "path" or type(spec.methods["image"]).linear
    total = float(table.scores[:-1, :-1].sum(0).abs().sum())
    is_cosine = spec.model.similarity.item_ndim == 1
    if not path or (is_cosine and total >= NOISE_SHARE):  # of the cosine, no usual change is larger than 1
        return

    usual = usual_change(spec.model)
    if total < NOISE_SHARE * usual:
        share = f"{100 * total / usual:.2g} % of what this model usually gives to a match"
        yield Note(NOISE, f"{NEGLIGIBLE} the absolute scores of all words add up to {share}")


def _table_words(text: Side, wanted: Sequence[str | int]) -> Words:
    """Return the words that get a map: the wanted words, or all."""
    assert text.inputs.words is not None
    words = text.inputs.words[0]
    if not wanted:
        return words

    selected = tuple(words.words[0][index] for index in word_indices(words.words[0], wanted))
    explained = torch.zeros_like(words.explained)
    explained[[token for word in selected for token in word.tokens]] = True
    return Words(words.tokens, (selected,), explained)


def _late_table(model: Model, method: Method, image: Side, text: Side, words: Words) -> TableScores:
    """Compute the table of a model with late interaction, whose rows add up to the map for the whole query."""
    query = text.trace.embedding[0]
    masks = part_masks([word.tokens for word in words.words[0]], len(query)).to(query)
    maps = [image_maps(method, image, query * mask[..., None]) for mask in masks.split(AT_ONCE)]
    scores = torch.cat([with_other_tokens(of_words) for of_words in maps])
    paths = [of_words.path for of_words in maps if of_words.path is not None]
    changes = [float((path.at_input - path.at_baseline).sum()) for path in paths]

    # for methods without a path, the change is that from a blank image
    if not paths:
        ends = torch.cat([image.trace.embedding, image.blank()])
        changes = model.similarity.to_each(ends, query[None])[:, 0].diff().neg().tolist()

    return TableScores(scores, cells_of(maps[0].units).bare(), sum(changes))


def _gap_notes(table: TableScores, largest: float) -> list[str]:
    """Return a note if the table does not add up, up to a share of the change."""
    total = float(table.scores.sum())
    if abs(table.product - total) <= largest * max(abs(table.product), 0.01):
        return []
    return [f"the table {sum_text(total, table.product)}: compare its scores with each other"]
