"""Tokens of captions, and the words that they spell.

A word is a run of letters and digits with inner apostrophes and hyphens, a number with its points and commas, a run of
one punctuation mark, or a tag such as ``<b>``. Other marks, emoji and Chinese or Japanese characters are words of their
own, since these scripts have no spaces. So are the letters of Thai, Lao, Khmer and Burmese, each with the marks around
it. What one token spells is never parted. Blanks belong to the word after them. Numbers in brackets with only
commas between them, such as ``(412,230)``, and pairs of decimal numbers are words of their own: they are coordinates.
"""

import re
import threading
import unicodedata
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from importlib.resources import files
from itertools import accumulate, pairwise
from os.path import commonprefix
from typing import Any, TypeAlias

from nibt.data.units import Word
from nibt.io import read_text

Tokenizer: TypeAlias = Any
"""A tokenizer of Transformers or of OpenCLIP, which share no base class and few attributes."""

_IDEOGRAPH = r"[\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff]"
_MOST_SIGNS = 40  # of a word in a warning
_MARKS = "".join(
    character for character in map(chr, range(0x300, 0x10000)) if unicodedata.category(character)[0] == "M"
)
_BORDERLESS = r"[\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u19e0-\u19ff\ua9e0-\ua9ff\uaa60-\uaa7f]"
_SYLLABLE = (
    rf"{_BORDERLESS}(?:[\u1039\u17d2]{_BORDERLESS}|[{_MARKS}\u0e33\u0eb3])*"  # a letter with what stands around it
)
_LETTERS = (  # Python's \w lacks vowel signs of Indian scripts and combining accents
    rf"(?:(?!{_IDEOGRAPH}|{_BORDERLESS})[\w{_MARKS}])+"
)
_LANGUAGE = r"(?<!\w)[A-Za-z](?:\+\+|#)(?!\w)"  # C++, C#
_TAG = r"</?\|?[A-Za-z][\w\-]*\|?>"  # of a page, or a special token
_JOINT = r"(?:['\u2019\-]|(?<=\d)[.,](?=\d))"
_NUMBER = r"\d+(?:\.\d+)?"
_COORDINATE = (  # 412 and 230 of (412,230), 0.41 of 0.41,0.23: here a comma is between numbers, and not in one
    rf"(?<=[(\[,]){_NUMBER}(?=(?:,{_NUMBER})+[)\]])|\d+\.\d+(?=,\d+\.\d)"
)
_RUN = r"([!-/:-@\[-`{-~\u2026])\1+"  # ... and !!!
_FLAG = r"[\U0001f1e6-\U0001f1ff]{2}"
_IMAGE = rf"[^\w\s](?:[{_MARKS}\U0001f3fb-\U0001f3ff]|\u200d[^\w\s])*"  # with joiners, skin tones and variants
WORD = re.compile(
    rf"{_TAG}|{_COORDINATE}|{_IDEOGRAPH}|{_SYLLABLE}|{_LANGUAGE}|{_LETTERS}(?:{_JOINT}{_LETTERS})*|{_RUN}|{_FLAG}|{_IMAGE}"
)
_BLANKS = "\u2581\u0120\u010a\u0109 \n\t"  # of SentencePiece, and of byte pairs

UNKNOWN = "the model does not know"
"""The beginning of the note on words that the tokenizer reads as its token for unknown text."""
DROPPED = "the tokenizer leaves out"
"""The beginning of the note on characters that the tokenizer does not read."""
FUNCTION_WORDS = frozenset(read_text(files("nibt.preprocessing") / "function_words.txt").split())
"""English words that name nothing: articles, prepositions, pronouns, auxiliary verbs, numbers, and "photo of".

All other words with a letter are content words.
"""
WORD_CLASSES = {
    "numbers": frozenset("two three four five six seven eight nine ten eleven twelve dozen hundred thousand".split()),
    "negations": frozenset("no not none never nothing nobody without neither nor isn't aren't".split()),
    "relations": frozenset(
        "on under above below over beneath behind beside between left right inside outside before after near next far "
        "with".split()
    ),
}
"""Function words that change what a caption says, by class. A number in digits is a number, too."""
NOUNS = tuple(read_text(files("nibt.preprocessing") / "nouns.txt").split())
"""1,000 everyday English nouns, in the singular."""
TOKENIZER_LOCK = threading.RLock()
"""Serializes calls of tokenizers, which store padding and truncation as a state that each call sets."""


@dataclass(frozen=True)
class Tokens:
    """The tokens of one caption.

    Attributes:
        ids: The id of each row.
        texts: The text of each row.
        explained: Whether each row belongs to a word.
        words: The words, with their rows.
        notes: The warnings of the caption.
        mask: The attention mask that the tokenizer returns: 1 for tokens, 0 for padding. It is empty if the tokenizer
            returns none.
    """

    ids: tuple[int, ...]
    texts: tuple[str, ...]
    explained: tuple[bool, ...]
    words: tuple[Word, ...]
    notes: tuple[str, ...] = ()
    mask: tuple[int, ...] = ()


def truncation_note(length: int, context: int) -> str:
    """Return the warning that a caption is longer than the context of the model."""
    return f"the caption has {length} tokens, and the model uses {context}: the rest was cut off"


def word_pieces(text: str) -> list[str]:
    """Return the words of a text with what stands before each, and after the last one.

    Examples:
        >>> word_pieces(" two cats ")
        [' two', ' cats ']
    """
    ends = [match.end() for match in WORD.finditer(text)]
    ends[-1:] = [len(text)] if ends else []
    return [text[start:end] for start, end in zip([0, *ends], ends, strict=False)]


def words_of_text(text: str) -> tuple[str, ...]:
    """Return the words of a text; a punctuation mark is one, too.

    Examples:
        >>> words_of_text("two cats, asleep")
        ('two', 'cats', ',', 'asleep')
    """
    return tuple(match.group() for match in WORD.finditer(text))


def words_by_offsets(
    caption: str, texts: Sequence[str], explained: Sequence[bool], offsets: Sequence[tuple[int, int]]
) -> tuple[Word, ...]:
    """Group tokens by the words of the caption that they spell. A token with parts of two words joins them.

    Examples:
        >>> [w.text for w in words_by_offsets("two cats!", ["two", "cat", "s", "!"], [True] * 4,
        ...                                   [(0, 3), (4, 7), (7, 8), (8, 9)])]
        ['two', 'cats', '!']
        >>> [w.text for w in words_by_offsets("http://", ["http", "://"], [True] * 2, [(0, 4), (4, 7)])]
        ['http', '://']
    """
    spans = [match.span() for match in WORD.finditer(caption)]
    words: list[tuple[int, int, str, list[int]]] = []
    blanks: list[int] = []
    for row, (start, end) in enumerate(offsets):
        piece = caption[start:end]
        if not explained[row]:
            blanks = []
            continue
        if not (piece or texts[row]).strip(_BLANKS).strip():
            blanks.append(row)
            continue

        start += len(piece) - len(piece.lstrip())  # some offsets begin with the blank before the word
        touched = [span for span in spans if span[0] < max(end, start + 1) and start < span[1]] if piece else []
        first, last = (touched[0][0], touched[-1][1]) if touched else (start, end)

        # the token continues the last word, or joins the next one to it
        rows: list[int] = []
        if touched and words and first < words[-1][1]:
            first = words[-1][0]
            last = max(last, words[-1][1])
            rows = words.pop()[3]

        # an unknown character, or a token without offsets, is a word of its own
        words.append((first, last, caption[first:last] or texts[row], [*rows, *blanks, row]))
        blanks = []

    return tuple(Word(text, tuple(rows)) for _, _, text, rows in words)


def decoded_offsets(decoded: Sequence[str]) -> tuple[list[int], list[tuple[int, int]]]:
    """Return how many characters are complete after each token, and the characters that each token has bytes of.

    Args:
        decoded: The text of the first 0, 1, 2, ... tokens, the last of which is that of all. A character whose bytes
            are not complete is decoded to something else.

    Examples:
        >>> decoded_offsets(["", "na", "na\ufffd", "na\u00ef", "na\u00efve"])
        ([0, 2, 2, 3, 5], [(0, 2), (2, 3), (2, 3), (3, 5)])
    """
    agreeing = [len(commonprefix([decoded[-1], text])) for text in decoded]  # noqa: RUF071  characters, no paths
    ends = list(accumulate(agreeing, max))
    unfinished = [len(text) > count for text, count in zip(decoded, agreeing, strict=True)]
    offsets = [(first, last + more) for (first, last), more in zip(pairwise(ends), unfinished[1:], strict=True)]
    return ends, offsets


def in_words(words: Sequence[Word], count: int) -> tuple[bool, ...]:
    """Return for each of ``count`` rows whether it belongs to a word: blanks at the end of a caption do not."""
    rows = {row for word in words for row in word.tokens}
    return tuple(row in rows for row in range(count))


def special_notes(caption: str, special: Iterable[str]) -> list[str]:
    """Return a warning for each special token of the model that is typed in a caption.

    The texts are compared, since a tokenizer may use one id for its end token and for what it does not know.
    """
    typed = sorted({piece for piece in special if piece and piece in caption})
    return [
        f"the caption has {piece!r}, a special token of the model: it may not read it, or what follows, as text"
        for piece in typed
    ]


def unknown_notes(words: Sequence[Word], ids: Sequence[int | str], unknown: int | str | None) -> list[str]:
    """Return a warning that names the words that the tokenizer reads as its token for unknown text."""
    names = dict.fromkeys(word.text for word in words if any(ids[row] == unknown for row in word.tokens))
    return [f"{UNKNOWN} {', '.join(repr(name[:_MOST_SIGNS]) for name in names)}"] if names else []


def dropped_notes(caption: str, offsets: Sequence[tuple[int, int]]) -> list[str]:
    """Return a warning that names the letters, digits and symbols that no token spells, such as an emoji.

    Punctuation is not named, which tokenizers of words often leave out.

    Examples:
        >>> dropped_notes("a ☂, open", [(0, 1), (5, 9)])
        ["the tokenizer leaves out '☂': the model does not read it"]
    """
    if any(start == end for start, end in offsets):  # it is not known what these tokens spell
        return []

    read = {position for start, end in offsets for position in range(start, end)}
    dropped = [
        character
        for position, character in enumerate(caption)
        if position not in read and unicodedata.category(character)[0] in "LNS"
    ]
    if not dropped:
        return []
    names = ", ".join(map(repr, list(dict.fromkeys(dropped))[:_MOST_SIGNS]))
    return [f"{DROPPED} {names}: the model does not read {'it' if len(dropped) == 1 else 'them'}"]


def words_by_marks(texts: Sequence[str], explained: Sequence[bool]) -> tuple[Word, ...]:
    """Group tokens by the marks at word borders, for tokenizers without offsets.

    ``</w>`` ends a word (CLIP's byte pairs), a leading ``▁`` starts one (SentencePiece), ``##`` continues one.

    Examples:
        >>> [w.text for w in words_by_marks(["um", "brella</w>", "cat</w>"], [True] * 3)]
        ['umbrella', 'cat']
        >>> [w.text for w in words_by_marks(["▁um", "brella", "▁cat"], [True] * 3)]
        ['umbrella', 'cat']
    """
    ends = any(text.endswith("</w>") for text in texts)
    starts = any(text.startswith("▁") for text in texts)
    groups: list[list[int]] = []
    for row, text in enumerate(texts):
        if not explained[row]:
            continue

        before = texts[groups[-1][-1]] if groups else ""
        if ends:
            continues = not before.endswith("</w>")
        elif starts:
            continues = not text.startswith("▁")
        else:
            continues = text.startswith("##")

        if groups and continues and groups[-1][-1] == row - 1:
            groups[-1].append(row)
        else:
            groups.append([row])

    bare = [text.removesuffix("</w>").removeprefix("▁").removeprefix("##") for text in texts]
    words = (Word("".join(bare[row] for row in rows), tuple(rows)) for rows in groups)
    return tuple(word for word in words if word.text.strip(_BLANKS))
