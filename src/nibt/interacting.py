"""From a pair to its word-region table."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from nibt.interaction import Interaction, places
from nibt.jacobians import over_layers, parts, pulled, rows
from nibt.loading import load_model
from nibt.models.base import Model
from nibt.pair import Caption, Pair, PictureSource, listed
from nibt.pairing import mixed, paired
from nibt.question import Contrast, Question, ask
from nibt.side import Side
from nibt.sides import sides
from nibt.units import Grid, Words


def explain_interactions(
    model: Model | str | Path | nn.Module,
    image: PictureSource | Sequence[PictureSource],
    caption: str | Caption | Sequence[str | Caption],
    *,
    words: str | int | Sequence[str | int] = (),
    variant: str = "default",
    on_done: Callable[[], None] = lambda: None,
    **options: Any,
) -> Interaction | list[Interaction]:
    """Which words of a caption go with which parts of an image: a signed table, words x patches.

    Both towers are narrowed as by the method ``nib``, whose options and variants these are; the score is the cosine.
    The table's sum over all word rows is NIB's image map for the change of the caption's embedding, and with the rows
    that are no words and no patches it is complete: ``Interaction.gap`` tells how nearly. Lists pair up as in
    ``explain``.

    ``words``: texts of words of the caption, or their numbers from 0, which alone have rows of their own; without it,
    all have. Each costs a forward pass of the upper part of the text tower, and a backward pass of the image tower's.

    Raises:
        BadInput: a picture or a caption cannot be read, lists differ in length, both are of one kind, or a word does
            not stand in a caption.
        UnknownName: no variant or option has that name.
        BadOption: an option has a value that it cannot have.

    """
    read, many = paired(image, caption)
    pairs = [mixed(pair, "explain_interactions") for pair in read]
    model = load_model(model)
    question = ask(model, "nib", "cosine", variant, Contrast(), None, None, options)
    answers = []
    for pair in pairs:
        answers.append(_table(question, pair, listed(words)))
        on_done()
    return answers if many else answers[0]


def _table(question: Question, pair: Pair, asked: Sequence[str | int]) -> Interaction:
    image, text = sides(question, [pair])
    words, grid = _rows(text, asked), _grid(image, question)
    vectors, said = _of_words(text, question, words)
    scores, shown = _of_patches(image, question, vectors)
    kept = grid.keep(scores)
    similarity = float(F.cosine_similarity(image.trace.embedding, text.trace.embedding))
    return Interaction(
        pair.caption, torch.cat([kept, (scores.sum(-1) - kept.sum(-1))[:, None]], 1).float().cpu(), grid, words,
        image.inputs.regions[0], pair.picture.size, similarity, float(shown @ said), question.record["method"],
        **question.facts, source=pair.picture.source,
        warnings=(*question.warnings, *pair.notes, *image.inputs.notes[0], *text.inputs.notes[0]), picture=pair.picture,
    )  # fmt: skip


def _rows(text: Side, asked: Sequence[str | int]) -> Words:
    """The words of one caption that have rows of their own: those asked for, or all."""
    assert text.inputs.words is not None
    words = text.inputs.words[0]
    if not asked:
        return words
    chosen = tuple(words.words[0][place] for place in places(words.words[0], asked))
    explained = torch.zeros_like(words.explained)
    explained[[token for word in chosen for token in word.tokens]] = True
    return Words(words.tokens, (chosen,), explained)


def _grid(image: Side, question: Question) -> Grid:
    units = image.cut(question.narrowed("image").layer[0]).units
    assert isinstance(units, Grid)
    return units


def _of_words(text: Side, question: Question, words: Words) -> tuple[Tensor, Tensor]:
    """What each word, and last all that is no word, contributes to the unit embedding; and its whole change."""
    spelt, dim = [word.tokens for word in words.words[0]], text.trace.embedding.shape[-1]
    return over_layers(
        text, question.narrowed("text"),
        lambda cut, start, path: rows(cut, start, path, parts(spelt, cut.hidden.shape[1]), dim)[:, 0],
    )  # fmt: skip


def _of_patches(image: Side, question: Question, vectors: Tensor) -> tuple[Tensor, Tensor]:
    """The score of each token row of the image for each vector; and the whole change of the unit embedding."""
    return over_layers(
        image, question.narrowed("image"), lambda cut, start, path: pulled(cut, start, path, vectors[:, None])[:, 0]
    )
