"""The words of a caption with their colors, for the terminal and for images."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import numpy as np

from nibt.data.units import WordScore
from nibt.report.colors import on_paper, strength


@runtime_checkable
class Worded(Protocol):
    """A result with words and scores: an explanation, or a caption of a comparison."""

    @property
    def words(self) -> Sequence[WordScore]:
        """The words with their scores."""
        ...


@dataclass(frozen=True)
class ColoredWord:
    """A word, its score, and its score relative to the largest absolute one, in [-1, 1]."""

    text: str
    score: float
    share: float

    @property
    def background(self) -> tuple[int, int, int]:
        """The background color."""
        return on_paper(self.share)


def runs(worded: Worded, positive_only: bool = False) -> Iterator[ColoredWord]:
    """Yield the words in order; with ``positive_only`` negative words have no color."""
    scores = np.array([word.score for word in worded.words], np.float32)
    most = float(np.abs(scores).max(initial=0))
    shares = strength(scores.clip(0) if positive_only else scores, most)
    for word, share in zip(worded.words, shares.tolist(), strict=True):
        yield ColoredWord(
            "".join(character for character in word.text if character.isprintable()) or "�", word.score, share
        )
