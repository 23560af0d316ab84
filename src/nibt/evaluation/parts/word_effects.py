"""The effects of parts of captions by intervention: their words are exchanged, and the model is asked again."""

from collections.abc import Mapping, Sequence
from dataclasses import astuple, dataclass
from hashlib import sha256
from itertools import groupby
from typing import TypeAlias

import numpy as np
import torch
from jaxtyping import Bool, Float

from nibt.data.ground_truth import touched_words, word_spans
from nibt.data.objects import Span
from nibt.data.pair import Pair, is_visible
from nibt.data.units import Words
from nibt.engine.encode import groups_of, similarities, within_memory
from nibt.errors import Unsupported
from nibt.evaluation.finished import FinishedWork
from nibt.evaluation.parts.effects import Losses, label_of
from nibt.models.base import Model

Chosen: TypeAlias = Bool[np.ndarray, " _word"]
"""Whether each word of a caption is chosen; captions differ in their number of words."""


@dataclass(frozen=True, eq=False)
class CaptionWords:
    """The words of a caption.

    Attributes:
        texts: The words.
        spans: The place of each in the caption; None if the tokenizer spells it differently.
        states: The mean hidden state of the tokens of each word.
        named: Whether each word names an object; None if this is unknown.
    """

    texts: tuple[str, ...]
    spans: tuple[Span | None, ...]
    states: Float[np.ndarray, "word dim"]
    named: Bool[np.ndarray, " word"] | None


@torch.no_grad()
def words_of(model: Model, pairs: Sequence[Pair], layer: int, batch_size: int) -> list[CaptionWords]:
    """Return the words of captions, with their hidden states at a layer."""
    tower = model.text
    captions = [pair.caption for pair in pairs]

    def computed(indices: Sequence[int]) -> list[CaptionWords]:
        cut = tower.trace(tower.prepare([captions[index] for index in indices]), layer).cut(layer)
        if not isinstance(cut.units, Words):
            raise Unsupported("parts of captions need a text tower whose hidden states belong to words")
        states = cut.hidden.float().cpu().numpy()
        return [_words_of(pairs[index], cut.units[row], states[row]) for row, index in enumerate(indices)]

    by_index: dict[int, CaptionWords] = {}
    for indices, of_batch in within_memory(groups_of([tower.group(text) for text in captions], batch_size), computed):
        by_index |= dict(zip(indices, of_batch, strict=True))

    return [by_index[index] for index in range(len(pairs))]


def _words_of(pair: Pair, words: Words, states: Float[np.ndarray, "token dim"]) -> CaptionWords:
    (listed,) = words.words
    spans = list(word_spans(pair.caption, words))
    spans_of_names = [span for named in pair.objects for span in named.spans]
    return CaptionWords(
        texts=tuple(word.text for word in listed),
        spans=tuple(spans),
        states=np.array([states[list(word.tokens)].mean(0) for word in listed]).reshape(len(listed), states.shape[1]),
        named=touched_words(spans, spans_of_names).numpy() if spans_of_names else None,
    )


@dataclass(frozen=True)
class Exchanged:
    """The changed captions of a pair.

    Attributes:
        of_part: The words of the part are those of the other caption.
        of_rest: All other words are.
        of_random: As many random words are.
        of_random_rest: All but these are.
        of_all: The other caption.
    """

    of_part: str
    of_rest: str
    of_random: str
    of_random_rest: str
    of_all: str


def exchanges(
    pairs: Sequence[Pair],
    words: Sequence[CaptionWords],
    chosen: Sequence[Chosen],
    items: Sequence[int],
    draws: np.random.Generator,
) -> dict[int, Exchanged]:
    """Exchange the words of a part for those of captions with other labels.

    Args:
        pairs: The pairs.
        words: The words of each caption.
        chosen: Whether each word of each caption belongs to the part.
        items: The positions of the pairs that are changed. One without another caption to exchange with is left out.
        draws: Draws the random words.
    """
    changed = {}
    for item in items:
        donor = _donor(pairs, words, chosen, item)
        if donor is None:
            continue

        ours = pairs[item].caption, words[item].spans
        theirs = pairs[donor].caption, words[donor].spans
        random = draws.permutation(chosen[item])
        random_of_donor = draws.permutation(chosen[donor])
        texts = Exchanged(
            with_words(*ours, chosen[item], *theirs, chosen[donor]),
            with_words(*theirs, chosen[donor], *ours, chosen[item]),
            with_words(*ours, random, *theirs, random_of_donor),
            with_words(*theirs, random_of_donor, *ours, random),
            pairs[donor].caption,
        )
        if all(map(is_visible, astuple(texts))):
            changed[item] = texts

    return changed


def _donor(pairs: Sequence[Pair], words: Sequence[CaptionWords], chosen: Sequence[Chosen], item: int) -> int | None:
    """Return the next pair with another label and other words of the part; if there is none, one without the part."""
    ours = _texts(words[item], chosen[item])
    following = [*range(item + 1, len(pairs)), *range(item)]
    others = [place for place in following if label_of(pairs[place]) != label_of(pairs[item])]
    with_part = (place for place in others if chosen[place].any() and _texts(words[place], chosen[place]) != ours)
    without_part = (place for place in others if not chosen[place].any())
    return next(with_part, next(without_part, None))


def _texts(words: CaptionWords, chosen: Chosen) -> list[str]:
    return [text.lower() for text, is_in in zip(words.texts, chosen, strict=True) if is_in]


def with_words(
    caption: str,
    spans: Sequence[Span | None],
    chosen: Chosen,
    other: str,
    other_spans: Sequence[Span | None],
    other_chosen: Chosen,
) -> str:
    """Return a caption in which each run of chosen words is exchanged for that of another caption.

    A run for which the other caption has none is left out. Runs that it has in addition follow the last one; if there
    is none, they are put before the caption if they begin the other one, and else after it.

    Examples:
        >>> words = [(0, 1), (2, 7), (8, 10), (11, 12), (13, 16)]
        >>> chosen = np.array([True, True, True, False, False])
        >>> with_words("a photo of a cat", words, chosen, "this is a dog", [(0, 4), (5, 7)], np.array([True, True]))
        'this is a cat'
    """
    runs = _runs(spans, chosen)
    texts = [other[first:last] for first, last in _runs(other_spans, other_chosen)]
    if not runs:
        added = " ".join(texts)
        starts = bool(len(other_chosen)) and bool(other_chosen[0])
        return " ".join(f"{added} {caption}".split() if starts else f"{caption} {added}".split())

    new = [*texts[: len(runs) - 1], " ".join(texts[len(runs) - 1 :])]
    new += [""] * (len(runs) - len(new))
    for (first, last), text in reversed(list(zip(runs, new, strict=True))):
        caption = caption[:first] + text + caption[last:]
    return " ".join(caption.split())


def _runs(spans: Sequence[Span | None], chosen: Chosen) -> list[Span]:
    """Return the places of chosen words; those that follow each other are one run."""
    runs = []
    for is_run, members in groupby(zip(spans, chosen, strict=True), lambda word: bool(word[1] and word[0])):
        if is_run:
            places = [span for span, _ in members if span]
            runs.append((places[0][0], places[-1][1]))
    return runs


def losses_of_words(
    model: Model, pairs: Sequence[Pair], exchanged: Mapping[int, Exchanged], finished: FinishedWork
) -> tuple[Losses, Losses]:
    """Return what captions lose by the exchange of a part, and of as many random words."""
    if not exchanged:
        nothing = Losses(np.empty(0), np.empty(0), np.empty(0), None)
        return nothing, nothing

    rows = [(item, *astuple(texts)) for item, texts in exchanged.items()]

    def computed() -> np.ndarray:
        images = [pairs[item].image for item in exchanged]
        plain = similarities(model, images, [pairs[item].caption for item in exchanged])
        captions = zip(*map(astuple, exchanged.values()), strict=True)
        return np.column_stack([plain - similarities(model, images, list(texts)) for texts in captions])

    key = sha256(repr(rows).encode()).hexdigest()
    by_part, by_rest, by_random, by_random_rest, by_all = finished.numbers(f"losses of words {key}", computed).T
    return Losses(by_part, by_rest, by_all, None), Losses(by_random, by_random_rest, by_all, None)
