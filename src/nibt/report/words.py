"""The words of a caption with their colors, for the terminal and for images."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np

from nibt.io import one_line
from nibt.report.colors import DEFAULT, RGB, Appearance, on_paper, strength
from nibt.results.attribution import TextAttribution
from nibt.results.explanation import Explanation

Worded: TypeAlias = Explanation | TextAttribution
"""Results with words and scores: an explanation, or a caption of a comparison."""


@dataclass(frozen=True)
class ColoredWord:
    """A word, its score, its score relative to the largest absolute one, in [-1, 1], and its background color."""

    text: str
    score: float
    share: float
    background: RGB


def runs(worded: Worded, look: Appearance = DEFAULT) -> Iterator[ColoredWord]:
    """Yield the words in order; negative words have no color if they are hidden."""
    scores = np.array([word.score for word in worded.words], np.float32)
    most = float(np.abs(scores).max(initial=0))
    shares = strength(scores.clip(0) if look.positive_only else scores, most)
    backgrounds = on_paper(shares, look.palette).tolist()
    for word, share, background in zip(worded.words, shares.tolist(), backgrounds, strict=True):
        yield ColoredWord(one_line(word.text), word.score, share, tuple(background))
