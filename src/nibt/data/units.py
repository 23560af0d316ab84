"""What each token row of a tower stands for, and which rows are explained."""

from dataclasses import dataclass

from jaxtyping import Bool, Float
from torch import Tensor

from nibt.types import PerExample, PerToken, PerUnit
from nibt.values import ByValue


@dataclass(frozen=True)
class Grid:
    """A grid over an image.

    ``prefix`` rows before it (a class token) and any rows after it (padding) are not explained.
    """

    rows: int
    columns: int
    prefix: int = 0

    @property
    def count(self) -> int:
        return self.rows * self.columns

    def bare(self) -> "Grid":
        """The grid of scores that have no other rows."""
        return Grid(self.rows, self.columns)

    def keep(self, scores: PerToken) -> PerUnit:
        """Only the rows that stand for a cell of the grid."""
        return scores[:, self.prefix : self.prefix + self.count]

    def unfold(self, scores: PerUnit) -> Float[Tensor, "*batch rows columns"]:
        return scores.unflatten(-1, (self.rows, self.columns))

    def __getitem__(self, item: int) -> "Grid":
        return self


@dataclass(frozen=True)
class Word:
    """A word of a caption and the token rows that spell it."""

    text: str
    tokens: tuple[int, ...]


@dataclass(frozen=True)
class WordScore:
    """A word of a caption with its signed score, the sum of the scores of its tokens, and their rows."""

    text: str
    score: float
    tokens: tuple[int, ...]


@dataclass(frozen=True, eq=False)
class Words(ByValue):
    """The tokens of a batch of captions; special tokens (start, end, padding) are not explained.

    ``tokens`` and ``words`` hold a tuple for each caption; ``explained`` is true for the rows of words.
    Indexing gives the words of one caption, whose ``explained`` has no batch dimension.
    """

    tokens: tuple[tuple[str, ...], ...]
    words: tuple[tuple[Word, ...], ...]
    explained: Bool[Tensor, "*batch token"]

    def keep(self, scores: PerToken) -> PerUnit:
        """All rows, with those of special tokens at zero: captions of a batch differ in length."""
        return scores.masked_fill(~self.explained.to(scores.device), 0.0)

    def __getitem__(self, item: int) -> "Words":
        return Words((self.tokens[item],), (self.words[item],), self.explained[item])


Units = Grid | Words


def special_share(scores: PerToken, units: Units) -> PerExample:
    """The share of the absolute score that lies on rows which stand for no unit, in [0, 1]."""
    total = scores.abs().sum(-1)
    explained = units.keep(scores).abs().sum(-1)
    return ((total - explained) / total.clamp_min(1e-30)).clamp(0, 1)


def word_scores(scores: Float[Tensor, " token"], units: Words) -> tuple[WordScore, ...]:
    """The words of one caption, each with the sum of its tokens' scores."""
    return tuple(WordScore(word.text, float(scores[list(word.tokens)].sum()), word.tokens) for word in units.words[0])
