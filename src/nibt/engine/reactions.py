"""Reactions of a model to captions and to their words: how far an embedding moves if words are blank."""

from collections.abc import Iterator, Sequence
from dataclasses import replace

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from nibt.core.side import Side
from nibt.data.units import Word, WordScore
from nibt.engine.encode import encode
from nibt.models.base import Model
from nibt.preprocessing.captions import FUNCTION_WORDS, WORD_CLASSES
from nibt.progress import listening, no_progress
from nibt.results.notes import Note
from nibt.types import PerExample

NEAR_BLANK = 0.05
"""The distance of the unit embeddings of a caption and of a blank one below which the model does not react to it."""
UNMOVED = 0.1
"""The share of the distance between a caption and a blank one that a word must move to count as read by the model.

Where it is above ``NEAR_BLANK``, that is the limit. ``benchmarks/mismatch.py --words`` chose it.
"""
SMALL = 0.25
"""The share of the largest score of a word up to which words may be without a reaction, if scores have a unit."""
SPELLED = 4
"""The letters from which on a word whose tokens have fewer than two letters on average counts as spelled."""
NO_REACTION_TO = "the model hardly reacts to"
"""The beginning of the note on words whose removal leaves the embedding of the caption where it was."""


def reactions(text: Side) -> PerExample:
    """Return the distance of the unit embedding of each caption from that of a blank one, in [0, 2].

    Of a set of vectors, it is the largest distance.
    """
    caption = F.normalize(text.trace.embedding.float(), dim=-1)
    blank = F.normalize(text.blank().float(), dim=-1)
    return (caption - blank).norm(dim=-1).reshape(len(caption), -1).amax(1)


def word_notes(
    side: Side, item: int, words: Sequence[WordScore], in_units: bool = False, signs: bool = False
) -> Iterator[Note]:
    """Yield notes that name content words of a caption: spelled, without a reaction and, with ``signs``, negative ones.

    A tokenizer spells only words that were rare in its training: none of ``NOUNS`` with CLIP's or ``lite``'s.
    If scores are ``in_units`` of the score that they explain, only words with small scores are removed.
    """
    content = _content_words(words)
    limit = SMALL * max((abs(word.score) for word in words), default=0.0)
    small = [word for word in content if not in_units or abs(word.score) <= limit]
    unread: list[str] = []
    if small and side.model.item_ndim == 1:
        unread = _without_reaction(side, item, [Word(word.text, word.tokens) for word in small])

    yield from _spelled_note(words)
    yield from _class_notes(side, [word.text for word in words])
    if unread:
        noun = "it" if len(unread) == 1 else "any one of them"
        named = ", ".join(map(repr, unread))
        text = f"{NO_REACTION_TO} {named}: without {noun}, the caption's embedding hardly changes"
        yield Note("unread_words", text)

    if not signs:
        return

    if in_units:
        known = "\n".join(side.inputs.notes[item])  # which names words that the tokenizer does not know
        minor = [word for word in small if word.text not in unread and repr(word.text)[:40] not in known]
        yield from _minor_note(minor)

    yield from _lowering_note([word for word in content if word.score < -limit and word.text not in unread])


def _content_words(words: Sequence[WordScore]) -> list[WordScore]:
    """Return the content words, once each, with the scores and the tokens of all their places.

    All places of a word are one, since one of them may do without the others.
    """
    content: dict[str, WordScore] = {}
    for word in words:
        key = word.text.lower()
        if key in FUNCTION_WORDS or not any(map(str.isalpha, word.text)):
            continue

        before = content.get(key, WordScore(word.text, 0.0, ()))
        content[key] = WordScore(before.text, before.score + word.score, before.tokens + word.tokens)

    return list(content.values())


def _spelled_note(words: Sequence[WordScore]) -> Iterator[Note]:
    """Yield a note if words have fewer than two letters a token, or other signs than ASCII a token for each byte."""
    pieces_of: dict[str, str] = {}
    for word in words:
        if not word.text.isascii() and len(word.tokens) >= len(word.text.encode()):
            pieces_of[word.text] = "single bytes"
        elif 2 * len(word.tokens) > len(word.text) >= SPELLED:
            pieces_of[word.text] = "pieces of one or two letters"

    for pieces in ("pieces of one or two letters", "single bytes"):
        spelled = [text for text, of_text in pieces_of.items() if of_text == pieces]
        if spelled:
            names = ", ".join(map(repr, spelled))
            noun = "this word" if len(spelled) == 1 else "these words"
            text = f"the tokenizer splits {names} into {pieces}: the model has hardly learned {noun}"
            yield Note("spelled_words", text)


def _minor_note(words: Sequence[WordScore]) -> Iterator[Note]:
    """Yield a note that names words with small scores."""
    if words:
        verb = "counts for" if len(words) == 1 else "count for"
        others = "less than a quarter of the largest score: other words decide most of the similarity"
        yield Note("minor_words", f"{_with_scores(words)} {verb} {others}")


def _lowering_note(words: Sequence[WordScore]) -> Iterator[Note]:
    """Yield a note that names words with negative scores."""
    if words:
        verb, noun = ("lowers", "this word names") if len(words) == 1 else ("lower", "these words name")
        yield Note("lowering_words", f"{_with_scores(words)} {verb} the score: red regions do not show what {noun}")


def _with_scores(words: Sequence[WordScore]) -> str:
    return ", ".join(f"{word.text!r} ({word.score:+.4f})" for word in words)


def _without_reaction(text: Side, item: int, words: Sequence[Word]) -> list[str]:
    """Return the words without which the embedding of a caption stays where it was.

    Words that the tokenizer does not know have a note of their own.
    """
    notes = "\n".join(text.inputs.notes[item])  # which shorten long words
    words = [word for word in words if repr(word.text)[:40] not in notes]
    if not words:
        return []

    caption = replace(text, trace=text.trace.take([item]))
    limit = min(NEAR_BLANK, UNMOVED * float(reactions(caption)))
    return [word.text for word, move in zip(words, moves(caption, words).tolist(), strict=True) if move < limit]


_REPLACED = {
    "numbers": (("two {}s", "five {}s"), ("three {}s", "seven {}s")),
    "negations": (("a {}", "no {}"), ("a room with a {}", "a room without a {}")),
    "relations": (
        ("a {} on a table", "a {} under a table"),
        ("a {} left of a box", "a {} right of a box"),
        ("a {} near a box", "a {} far from a box"),
        ("a {} next to a box", "a {} behind a box"),
        ("a {} with a box", "a {} under a box"),
    ),
}
"""Captions of a noun that differ in a word of each class."""
_TRIED = ("cat", "dog", "car", "tree", "ball", "cup")
_HARDLY = 0.25
UNREAD_SHARES = {"numbers": _HARDLY, "negations": 0.75, "relations": _HARDLY}
"""The share of the distance between captions with two nouns below which a model does not read words of a class.

A negated noun says the opposite, so it must change a caption about as much as another noun.
"""


def class_reactions(model: Model) -> dict[str, float]:
    """Return how much the model reacts to words of each class, relative to nouns; computed once per model.

    It is the mean distance of the unit embeddings of captions that differ in a word of the class, divided by the mean
    distance of those that differ in the noun.
    """
    key = "reactions to word classes"
    if key not in model.kept:
        model.kept[key] = {name: _class_reaction(model, pairs) for name, pairs in _REPLACED.items()}
    return model.kept[key]


def _class_reaction(model: Model, pairs: Sequence[tuple[str, str]]) -> float:
    """Return the reaction to one class of words, relative to that to nouns."""
    captions = [template.format(noun) for pair in pairs for template in pair for noun in _TRIED]
    embeddings = F.normalize(encode(model.text, captions).float(), dim=-1)

    # (pair, template, noun, dim): a pair has both words of the class, and each noun is compared with the one before it
    embeddings = embeddings.unflatten(0, (len(pairs), 2, len(_TRIED)))
    of_words = (embeddings[:, 0] - embeddings[:, 1]).norm(dim=-1).mean()
    of_nouns = (embeddings - embeddings.roll(1, 2)).norm(dim=-1).mean()
    return float(of_words / of_nouns.clamp_min(1e-12))


def _class_notes(side: Side, words: Sequence[str]) -> Iterator[Note]:
    """Yield a note for each class of function words of a caption that the model does not read."""
    classes = {
        name: [
            *dict.fromkeys(word for word in words if word.lower() in listed or (name == "numbers" and word.isdigit()))
        ]
        for name, listed in WORD_CLASSES.items()
    }
    if side.model.item_ndim > 1 or not any(classes.values()):
        return

    reaction = class_reactions(side.dual_encoder)
    for name, present in classes.items():
        if present and reaction[name] < UNREAD_SHARES[name]:
            named = ", ".join(map(repr, present))
            share = f"{100 * reaction[name]:.2g} % of what another noun does"
            other = "one" if name == "negations" else "another one"
            degree = "hardly" if reaction[name] < _HARDLY else "weakly"
            text = f"the model {degree} reads {name} ({named}): {other} changes a caption's embedding by {share}"
            yield Note(f"unread_{name}", text)


def moves(caption: Side, words: Sequence[Word]) -> Float[Tensor, " word"]:
    """Return by how much the unit embedding of one caption moves without each of some words, in [0, 2]."""
    from nibt.core.perturbation import embeddings_with_words  # which captions of known words do not need

    with listening(no_progress):  # short, compared with the maps
        without = embeddings_with_words(caption, words, 1 - torch.eye(len(words), dtype=torch.float32, device="cpu"))
    return (without.float() - F.normalize(caption.trace.embedding.float(), dim=-1)).norm(dim=-1)
