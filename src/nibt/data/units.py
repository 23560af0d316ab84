"""The units that the token rows of a tower stand for, and which rows are explained."""

from dataclasses import dataclass, field

from jaxtyping import Bool, Float
from torch import Tensor

from nibt.types import PerExample, PerToken, PerUnit
from nibt.values import ByValue


@dataclass(frozen=True)
class Grid:
    """The cells of a grid over an image, in row-major order.

    Attributes:
        rows: The number of rows.
        columns: The number of columns.
        prefix: The number of token rows before the grid, such as a class token. They are not explained, and neither
            are token rows after the grid, such as padding.
        places: The token row of each cell, where the cells are not in row-major order; empty where they are.
        overview: A coarser grid of further tokens, each of which stands for the same part of the image as a block of
            cells. Its scores are divided equally among these cells.

    """

    rows: int
    columns: int
    prefix: int = 0
    places: tuple[int, ...] = field(default=(), kw_only=True)
    overview: "Grid | None" = field(default=None, kw_only=True)

    @property
    def count(self) -> int:
        """The number of cells."""
        return self.rows * self.columns

    @property
    def tokens(self) -> tuple[int, ...]:
        """The token row of each cell."""
        return self.places or tuple(range(self.prefix, self.prefix + self.count))

    def bare(self) -> "Grid":
        """Return the grid without a prefix."""
        return Grid(self.rows, self.columns)

    def keep(self, scores: PerToken) -> PerUnit:
        """Return the scores of the cells only."""
        if not self.places:
            return scores[:, self.prefix : self.prefix + self.count]
        own = scores[:, list(self.places)]
        return own if self.overview is None else own + self._spread(self.overview, scores)

    def _spread(self, coarse: "Grid", scores: PerToken) -> PerUnit:
        """Divide the scores of a coarser grid equally among the cells that it covers."""
        down, across = self.rows // coarse.rows, self.columns // coarse.columns
        blocks = coarse.unfold(coarse.keep(scores)).repeat_interleave(down, -2).repeat_interleave(across, -1)
        return blocks.flatten(-2) / (down * across)

    def unfold(self, scores: PerUnit) -> Float[Tensor, "*batch rows columns"]:
        """Return scores in rows and columns."""
        return scores.unflatten(-1, (self.rows, self.columns))

    def __getitem__(self, item: int) -> "Grid":
        return self


@dataclass(frozen=True)
class Word:
    """A word of a caption, and the rows of its tokens."""

    text: str
    tokens: tuple[int, ...]


@dataclass(frozen=True)
class WordScore:
    """A word of a caption, its signed score (the sum over its tokens), and the rows of its tokens."""

    text: str
    score: float
    tokens: tuple[int, ...]


@dataclass(frozen=True, eq=False)
class Words(ByValue):
    """The tokens of a batch of captions. Special tokens (start, end, padding) are not explained.

    Indexing returns the words of one caption, whose ``explained`` has no batch dimension.

    Attributes:
        tokens: The texts of the tokens of each caption.
        words: The words of each caption.
        explained: True on the rows of words.

    """

    tokens: tuple[tuple[str, ...], ...]
    words: tuple[tuple[Word, ...], ...]
    explained: Bool[Tensor, "*batch token"]

    def keep(self, scores: PerToken) -> PerUnit:
        """Return the scores of all rows, with 0 for special tokens, since captions of a batch differ in length."""
        return scores.masked_fill(~self.explained.to(scores.device), 0.0)

    def repeated(self, count: int) -> "Words":
        """Return a batch of ``count`` times the same caption."""
        return Words(self.tokens * count, self.words * count, self.explained.expand(count, -1))

    def __getitem__(self, item: int) -> "Words":
        return Words((self.tokens[item],), (self.words[item],), self.explained[item])


Units = Grid | Words


def special_share(scores: PerToken, units: Units) -> PerExample:
    """Compute the share of the absolute score on rows without a unit, in [0, 1]."""
    total = scores.abs().sum(-1)
    explained = units.keep(scores).abs().sum(-1)
    return ((total - explained) / total.clamp_min(1e-30)).clamp(0, 1)


def word_scores(scores: Float[Tensor, " token"], units: Words) -> tuple[WordScore, ...]:
    """Return the words of one caption, each with the sum of its tokens' scores."""
    return tuple(WordScore(word.text, float(scores[list(word.tokens)].sum()), word.tokens) for word in units.words[0])
