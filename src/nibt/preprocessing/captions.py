"""From captions to token rows, and back from token rows to the words that people read.

A word is a run of letters and digits (with inner apostrophes and hyphens); a punctuation mark, an emoji and
each Chinese or Japanese sign are words of their own, since those scripts set no spaces.
"""

import re
import threading
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Int
from torch import Tensor

from nibt.data.units import Word, Words
from nibt.errors import BadInput

_SIGN = r"[\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff]"
_MARKS = "".join(sign for sign in map(chr, range(0x300, 0x10000)) if unicodedata.category(sign)[0] == "M")
_LETTERS = rf"(?:(?!{_SIGN})[\w{_MARKS}])+"  # Python's \w has no vowel signs of Indian scripts, no accents apart
_FLAG = r"[\U0001f1e6-\U0001f1ff]{2}"
_IMAGE = rf"[^\w\s](?:[{_MARKS}\U0001f3fb-\U0001f3ff]|\u200d[^\w\s])*"  # emoji are joined, coloured and varied
_WORD = re.compile(rf"{_SIGN}|{_LETTERS}(?:['\u2019\-]{_LETTERS})*|{_FLAG}|{_IMAGE}")

TOKENISING = threading.RLock()
"""Tokenisers keep how to pad and where to cut as a state that each call sets: one call at a time, or threads would get
each other's.
"""


@dataclass(frozen=True)
class Tokens:
    """One caption as a tokeniser gave it: ids, a text and a truth (is it of a word?) for each row, and words."""

    ids: tuple[int, ...]
    texts: tuple[str, ...]
    explained: tuple[bool, ...]
    words: tuple[Word, ...]
    notes: tuple[str, ...] = ()


def truncation_note(length: int, context: int) -> str:
    return f"the caption has {length} tokens, the model reads {context}: the rest was cut off"


def words_by_offsets(
    caption: str, texts: Sequence[str], explained: Sequence[bool], offsets: Sequence[tuple[int, int]]
) -> tuple[Word, ...]:
    """Group tokens by the word of the caption in which each begins.

    >>> [w.text for w in words_by_offsets("two cats!", ["two", "cat", "s", "!"], [True] * 4,
    ...                                   [(0, 3), (4, 7), (7, 8), (8, 9)])]
    ['two', 'cats', '!']
    """
    spans = [match.span() for match in _WORD.finditer(caption)]
    groups: dict[tuple[int, int, str], list[int]] = {}
    for row, (start, end) in enumerate(offsets):
        if not explained[row]:
            continue
        start += len(caption[start:end]) - len(caption[start:end].lstrip())
        home = next(((a, b, caption[a:b]) for a, b in spans if a <= start < b), None)
        # a sign that the pattern does not know, or a token without a place: a word of its own
        groups.setdefault(home or (start, row, caption[start:end] or texts[row]), []).append(row)
    return tuple(Word(text, tuple(rows)) for (_, _, text), rows in groups.items())


def words_by_marks(texts: Sequence[str], explained: Sequence[bool]) -> tuple[Word, ...]:
    """Group tokens by the marks that tokenisers put at word borders, where they give no offsets.

    ``</w>`` ends a word (CLIP's byte pairs), a leading ``▁`` begins one (SentencePiece), ``##`` continues one.

    >>> [w.text for w in words_by_marks(["um", "brella</w>", "cat</w>"], [True] * 3)]
    ['umbrella', 'cat']
    >>> [w.text for w in words_by_marks(["▁um", "brella", "▁cat"], [True] * 3)]
    ['umbrella', 'cat']
    """
    ends = any(text.endswith("</w>") for text in texts)
    begins = any(text.startswith("▁") for text in texts)
    groups: list[list[int]] = []
    for row, text in enumerate(texts):
        if not explained[row]:
            continue
        before = texts[groups[-1][-1]] if groups else ""
        joined = not before.endswith("</w>") if ends else not text.startswith("▁") if begins else text[:2] == "##"
        if groups and joined and groups[-1][-1] == row - 1:
            groups[-1].append(row)
        else:
            groups.append([row])
    return tuple(Word("".join(map(_bare, (texts[row] for row in rows))), tuple(rows)) for rows in groups)


def _bare(piece: str) -> str:
    return piece.removesuffix("</w>").removeprefix("▁").removeprefix("##")


def batch(
    captions: Sequence[str], tokens: Sequence[Tokens], pad: tuple[int, str] | None = None
) -> tuple[Int[Tensor, "batch token"], Words]:
    """Ids and words of several captions, filled up to the longest with ``pad`` (its id and its text).

    Raises:
        BadInput: A caption has no token that stands for a word.

    """
    for caption, row in zip(captions, tokens, strict=True):
        if not any(row.explained):
            raise BadInput(f"the model's tokeniser finds no word in the caption {caption!r}: word it differently")
    longest = max(len(row.ids) for row in tokens)
    fill_id, fill_text = pad or (0, "")
    ids = [[*row.ids, *[fill_id] * (longest - len(row.ids))] for row in tokens]
    texts = tuple((*row.texts, *(fill_text,) * (longest - len(row.ids))) for row in tokens)
    explained = [[*row.explained, *[False] * (longest - len(row.ids))] for row in tokens]
    words = Words(texts, tuple(row.words for row in tokens), torch.tensor(explained, device="cpu"))
    return torch.tensor(ids, device="cpu"), words
