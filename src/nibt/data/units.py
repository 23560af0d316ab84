"""The units that the token rows of a tower stand for, and which rows are explained."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int
from torch import Tensor

from nibt.errors import BadInput
from nibt.types import ByValue, PerExample, PerToken, PerUnit


@dataclass(frozen=True)
class Grid:
    """The cells of a grid over an image, in row-major order.

    Attributes:
        rows: The number of rows.
        columns: The number of columns.
        prefix: The number of token rows before the grid, such as a class token. They are not explained, and neither
            are token rows after the grid, such as padding.
        places: The token row of each cell, where the cells are not in row-major order; empty where they are.
        parts: The grids of several images, side by side from the first row on; empty for one image. Below a lower one,
            cells have no token and a score of 0.
        overview: A coarser grid of further tokens, each of which stands for the same part of the image as a block of
            cells. Its scores are divided among these cells, by area.
    """

    rows: int
    columns: int
    prefix: int = 0
    places: tuple[int, ...] = field(default=(), kw_only=True)
    overview: "Grid | None" = field(default=None, kw_only=True)
    parts: "tuple[Grid, ...]" = field(default=(), kw_only=True)

    @property
    def count(self) -> int:
        """The number of cells."""
        return self.rows * self.columns

    @property
    def shape(self) -> tuple[int, int]:
        """The rows and columns."""
        return self.rows, self.columns

    @property
    def tokens(self) -> tuple[int, ...]:
        """The token row of each cell; of several images, one image after the other."""
        if self.parts:
            return tuple(token for grid in self.parts for token in grid.tokens)
        return self.places or tuple(range(self.prefix, self.prefix + self.rows * self.columns))

    @property
    def layers(self) -> "tuple[Grid, ...]":
        """The grids whose cells have a token each: those of several images, or this one, and their overviews."""
        if self.parts:
            return tuple(layer for grid in self.parts for layer in grid.layers)
        return (self,) if self.overview is None else (self, self.overview)

    def bare(self) -> "Grid":
        """Return the grid without a prefix."""
        return Grid(self.rows, self.columns)

    def keep(self, scores: PerToken) -> PerUnit:
        """Return the scores of the cells only."""
        if self.parts:
            blocks = [F.pad(grid.unfold(grid.keep(scores)), (0, 0, 0, self.rows - grid.rows)) for grid in self.parts]
            return torch.cat(blocks, -1).flatten(-2)
        if not self.places:
            return scores[:, self.prefix : self.prefix + self.rows * self.columns]

        cells = scores[:, list(self.places)]
        return cells if self.overview is None else cells + self._spread(self.overview, scores)

    def _spread(self, coarse: "Grid", scores: PerToken) -> PerUnit:
        """Divide the scores of a coarser grid among the cells that it covers, by area."""
        down = _overlaps(self.rows, coarse.rows)
        across = _overlaps(self.columns, coarse.columns)
        blocks = coarse.unfold(coarse.keep(scores))
        return (down.to(blocks) @ blocks @ across.to(blocks).T).flatten(-2)

    def of_parts(self, scores: Float[Tensor, "row column"]) -> Float[Tensor, "own_row own_column"]:
        """Return a map of several images, which may have cells of its own, in their cells."""
        if not self.parts:
            return scores

        down = _overlaps(self.rows, len(scores))
        across = _overlaps(self.columns, scores.shape[1])

        # with a score of 1 for each token, cells below a lower image, which have no token, are those with 0
        last = max(token for grid in self.layers for token in grid.tokens)
        seen = self.unfold(self.keep(scores.new_ones(1, 1 + last))[0]) > 0
        return (down.to(scores) @ scores @ across.to(scores).T) * seen

    def unfold(self, scores: PerUnit) -> Float[Tensor, "*batch rows columns"]:
        """Return scores in rows and columns."""
        return scores.unflatten(-1, (self.rows, self.columns))

    def __getitem__(self, item: int) -> "Grid":
        return self


def _overlaps(fine: int, coarse: int) -> Float[Tensor, "fine coarse"]:
    """Return the share of each of ``coarse`` equal intervals in each of ``fine`` equal intervals; columns sum to 1."""
    starts = torch.arange(fine, device="cpu")[:, None] * coarse
    wide = torch.arange(coarse, device="cpu")[None] * fine
    common = torch.minimum(starts + coarse, wide + fine) - torch.maximum(starts, wide)
    return common.clamp_min(0) / fine


@dataclass(frozen=True)
class Word:
    """A word of a caption, and the rows of its tokens."""

    text: str
    tokens: tuple[int, ...]


@dataclass(frozen=True)
class WordScore:
    """A word of a caption, its signed score (the sum over its tokens), and the rows of its tokens.

    ``error`` is the half-width of the 95 % interval of the score, if it is an estimate from random draws; else None.
    """

    text: str
    score: float
    tokens: tuple[int, ...]
    error: float | None = None


def check_tokens(words: Sequence[Word | WordScore], tokens: Sequence[str], **values: Tensor) -> None:
    """Check that values have an entry for each token, and that words have their tokens among them."""
    for name, entries in values.items():
        if len(entries) != len(tokens):
            raise BadInput(f"{name} must have an entry for each token (got {len(entries)} for {len(tokens)} tokens)")

    for word in words:
        if any(not 0 <= position < len(tokens) for position in word.tokens):
            raise BadInput(
                f"the tokens of a word must be positions from 0 to {len(tokens) - 1} (got {list(word.tokens)} of "
                f"{word.text!r:.100})"
            )


@dataclass(frozen=True, eq=False)
class Words(ByValue):
    """The tokens of a batch of captions. Special tokens (start, end, padding) are not explained.

    Indexing returns the words of one caption, whose ``explained`` has no batch dimension and as many rows as the
    caption has tokens: what pads it to the longest of its batch is no part of it.

    Attributes:
        tokens: The texts of the tokens of each caption, without those that pad it to the longest of the batch.
        words: The words of each caption.
        explained: True on the rows of words.
    """

    tokens: tuple[tuple[str, ...], ...]
    words: tuple[tuple[Word, ...], ...]
    explained: Bool[Tensor, "*batch token"]

    @property
    def count(self) -> int:
        """The number of token rows of a caption."""
        return self.explained.shape[-1]

    def keep(self, scores: PerToken) -> PerUnit:
        """Return the scores of all rows, with 0 for special tokens, since captions of a batch differ in length."""
        return scores.masked_fill(~self.explained.to(scores.device), 0.0)

    def without_padding(self, scores: PerToken) -> PerToken:
        """Return the scores of all rows, with 0 for those that pad a caption to the longest of its batch."""
        lengths = torch.tensor([len(tokens) for tokens in self.tokens], device=scores.device)
        rows = torch.arange(scores.shape[1], device=scores.device)
        return scores.masked_fill(rows >= lengths[:, None], 0.0)

    def repeated(self, count: int) -> "Words":
        """Return a batch of ``count`` times the same caption."""
        return Words(self.tokens * count, self.words * count, self.explained.expand(count, -1))

    def __getitem__(self, item: int) -> "Words":
        tokens = self.tokens[item]
        return Words((tokens,), (self.words[item],), self.explained[item, : len(tokens)])


@dataclass(frozen=True, eq=False)
class Segments(ByValue):
    """The segments of each image of a batch, which perturbation methods keep or remove as a whole.

    Their scores are spread evenly over their pixels, and returned on a grid of cells.
    """

    labels: Int[Tensor, "batch height width"]  # the segment of each pixel of the tower's input, or of each cell, from 0
    counts: tuple[int, ...]  # of segments, of each image
    cells: Grid | None = None  # which have a label each; None if each pixel has one

    @property
    def count(self) -> int:
        """The largest number of segments."""
        return max(self.counts)

    @property
    def grid(self) -> Grid:
        """The grid of cells: those that have labels, or as many as divide the pixels, at most 64 along each axis."""
        if self.cells is not None:
            return self.cells
        rows, columns = (
            max(number for number in range(1, min(side, 64) + 1) if side % number == 0)
            for side in self.labels.shape[1:]
        )
        return Grid(rows, columns)

    def __getitem__(self, item: int) -> "Segments":
        return replace(self, labels=self.labels[[item]], counts=(self.counts[item],))

    def pixels(self, keep: Float[Tensor, "mask batch unit"]) -> Float[Tensor, "mask batch height width"]:
        """Return what is kept of each pixel, or of each cell that has a label."""
        index = self.labels.to(keep.device).flatten(1).expand(len(keep), -1, -1)
        return keep.gather(-1, index).unflatten(-1, self.labels.shape[1:])

    def on_grid(self, scores: Float[Tensor, "batch unit *value"]) -> Float[Tensor, "batch cell *value"]:
        """Spread the scores of segments evenly over their pixels, and sum them over the cells of the grid."""
        flat = scores.reshape(*scores.shape[:2], -1)
        spread = torch.stack([self._spread(item).to(column) @ column for item, column in enumerate(flat)])
        return spread.reshape(len(scores), self.grid.count, *scores.shape[2:])

    def _spread(self, item: int) -> Float[Tensor, "cell unit"]:
        """Return the share of each segment in each cell; its columns sum to 1, and are 0 for absent segments."""
        rows = self.grid.rows
        columns = self.grid.columns
        height, width = self.labels.shape[1:]
        down = torch.arange(height, device="cpu") * rows // height
        across = torch.arange(width, device="cpu") * columns // width
        cells = (down[:, None] * columns + across[None]).flatten()

        # the pixels of each cell and segment are counted at once, by a number for each pair of both
        pairs = cells * self.count + self.labels[item].cpu().flatten()
        counts = torch.bincount(pairs, minlength=rows * columns * self.count)
        shares = counts.unflatten(0, (rows * columns, self.count)).float()
        return shares / shares.sum(0).clamp_min(1)


@dataclass(frozen=True, eq=False)
class SequenceUnits(ByValue):
    """The units of a sequence that holds an image and text: the cells of the image and, after them, the tokens."""

    grid: Grid
    words: Words
    with_image: bool = True  # whether the cells are explained, too

    @property
    def count(self) -> int:
        """The number of scores: one per cell, and one per row of the sequence."""
        return self.grid.count + self.words.count

    @property
    def explained(self) -> Bool[Tensor, "batch token"]:
        """True on the rows of cells and of words that are explained."""
        rows = self.words.explained.clone()
        rows[:, list(self.grid.tokens)] = self.with_image
        return rows

    def keep(self, scores: PerToken) -> PerUnit:
        """Return the scores of the cells and, after them, those of all rows, with 0 for rows without a word."""
        return torch.cat([self.grid.keep(scores), self.words.keep(scores)], -1)

    def __getitem__(self, item: int) -> "SequenceUnits":
        return replace(self, words=self.words[item])


Units = Grid | Words | SequenceUnits


def cells_of(units: Units) -> Grid:
    """Return the cells of an image, also of one in a sequence with text."""
    grid = units.grid if isinstance(units, SequenceUnits) else units
    assert isinstance(grid, Grid)
    return grid


def special_tokens(units: Units, count: int) -> tuple[Bool[Tensor, "#batch token"], int]:
    """Return which of ``count`` rows are special tokens, which are no units, and how many first rows have all of them.

    The number is 0 if there are no special tokens.
    """
    if isinstance(units, Grid):
        special = torch.ones(1, count, dtype=torch.bool, device="cpu")
        for grid in filter(None, (units, units.overview)):
            special[:, list(grid.tokens)] = False
    else:
        special = ~units.explained

    places = special.any(0).nonzero()
    return special, int(places[-1]) + 1 if len(places) else 0


def special_token_share(scores: PerToken, units: Units) -> PerExample:
    """Compute the share of the absolute score on rows without a unit, in [0, 1]."""
    total = scores.abs().sum(-1)
    explained = units.keep(scores).abs().sum(-1)
    return ((total - explained) / total.clamp_min(1e-30)).clamp(0, 1)
