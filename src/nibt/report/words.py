"""A caption with its words coloured: as runs of text and background, for the terminal and for images."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import numpy as np

from nibt.data.units import WordScore
from nibt.report.colors import on_paper, strength


@runtime_checkable
class Worded(Protocol):
    """What has words with scores: an explanation, or a caption of a comparison."""

    @property
    def words(self) -> Sequence[WordScore]: ...


@dataclass(frozen=True)
class Run:
    """A word, its score, and the share of the strongest word's score that its colour shows, in [-1, 1]."""

    text: str
    score: float
    share: float

    @property
    def background(self) -> tuple[int, int, int]:
        return on_paper(self.share)


def runs(worded: Worded, positive_only: bool = False) -> Iterator[Run]:
    """The words in their order; with ``positive_only`` those that speak against have no colour."""
    scores = np.array([word.score for word in worded.words], np.float32)
    most = float(np.abs(scores).max(initial=0))
    shares = strength(scores.clip(0) if positive_only else scores, most)
    for word, share in zip(worded.words, shares.tolist(), strict=True):
        yield Run("".join(sign for sign in word.text if sign.isprintable()) or "�", word.score, share)
