"""A caption with its words coloured: as runs of text and background, for the terminal and for pictures."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from nibt.explanation import Explanation
from nibt.report.colours import on_paper, strength


@dataclass(frozen=True)
class Run:
    """A word, its score, and the share of the strongest word's score that its colour shows, in [-1, 1]."""

    text: str
    score: float
    share: float

    @property
    def background(self) -> tuple[int, int, int]:
        return on_paper(self.share)


def runs(explanation: Explanation, positive: bool = False) -> Iterator[Run]:
    """The words in their order; with ``positive`` those that speak against the image have no colour."""
    words = list(explanation.words)
    scores = np.array([score for _, score in words], np.float32)
    most = float(np.abs(scores).max(initial=0))
    shares = strength(scores.clip(0) if positive else scores, most)
    for (word, score), share in zip(words, shares.tolist(), strict=True):
        yield Run("".join(sign for sign in word.text if sign.isprintable()) or "�", score, share)
