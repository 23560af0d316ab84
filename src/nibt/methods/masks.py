"""Methods that compare the scores of inputs with and without parts of them."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Annotated, ClassVar

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from nibt.core.perturbation import generator, mask_chunks, masker, score_of_pixels
from nibt.core.side import Side
from nibt.data.units import Grid, Segments, SequenceUnits, Units, Words
from nibt.methods._errors import (
    Estimates,
    StoppingRule,
    check_limit,
    check_no_limit,
    mean_error,
    rounds,
    share_of_error,
)
from nibt.methods._unit_vectors import UnitVectors
from nibt.methods._units import PlayerMethod, SegmentMethod, coalition_masks, explains_pixels, share_equally
from nibt.methods.base import both_sides
from nibt.models._inputs import Cut
from nibt.models.base import ImageTower
from nibt.options import Range, Samples, Seed, Share
from nibt.types import PerExample, UnitValues


@dataclass(frozen=True)
class Occlusion(SegmentMethod, name="occlusion"):
    r"""Occlusion: the decrease of the target without a unit (Zeiler and Fergus, ECCV 2014, arXiv 1311.2901).

    $$\text{score}_u = S - S(\text{without } u)$$

    A patch is replaced by the mean color, a word by the embedding of the padding token. Units are removed one at a
    time.

    Shows:
        By how much the target decreases if this patch, or this word, is removed.

    Use it when:
        You explain a caption, which has few words, or want scores that do not depend on layers or gradients.

    Avoid it when:
        Several patches carry the same evidence: removing one changes little, so all get low scores. For the removal of
        a region, remove it, and compare the scores. Occlusion costs one forward pass per cell: hundreds on
        convolutional towers.
    """

    paper = "Zeiler and Fergus, ECCV 2014, arXiv 1311.2901"
    category = "perturbation"
    linear = True
    cost = "1 + units"
    removes_single_units = True
    variants: ClassVar = both_sides(default={}, paper={})

    def scores(self, side: Side, units: Units | Segments) -> UnitValues:
        players = self.players(units, len(side.inputs))
        keep = coalition_masks(
            [~np.eye(len(item_players), dtype=bool) for item_players in players], players, units.count
        )
        hidden = masker(side, units)(keep.to(side.tower.example.device))
        drops = side.value()[:, None] - hidden.transpose(0, 1)
        return torch.stack(
            [
                share_equally(drops[item, : len(item_players)], item_players, units.count)
                for item, item_players in enumerate(players)
            ]
        )


_FEWEST = 64  # masks, before an error is looked at
_PARTS = 4  # squares per cell along each axis, over which the pixel map is averaged


@dataclass(frozen=True)
class RISE(PlayerMethod, name="rise"):
    r"""RISE: scores averaged over random masks (Petsiuk et al., BMVC 2018, arXiv 1806.07421).

    $$\text{score} = \frac{1}{N p} \sum_{n=1}^{N} S(m_n) \, m_n$$

    The mask $m_n$ of an image is a grid of 8 x 8 cells, each kept with the probability $p$. The grid is upsampled
    bilinearly with a random shift and multiplied with the normalized pixels. The map has at most 32 x 32 units. The
    mask of a caption keeps or drops each word, or in the variant ``paper`` each token: a dropped token has an embedding
    of zeros, to which its position is added, as in the published method. (``occlusion``, ``shapley``, ``banzhaf`` and
    the metrics put the embedding of the padding token in its place.)

    Shows:
        Which patches or words are often kept in the random masks for which the target is high.

    Use it when:
        You can run a model thousands of times for an image, and want to compare other methods with one that uses only
        the output of the model.

    Avoid it when:
        You need a fast method, signs, or scores that stay the same if a constant is added to the target.

    Args:
        masks: The number of masks.
        share: The probability that a cell or a word is kept.
        cells: The number of cells of an image's mask along each axis.
        seed: The seed of the masks.
        error: The size of the error at which no more masks are drawn: the largest half-width of the 95 % interval of a
            score, as a share of the largest score. None draws all masks.
    """

    paper = "Petsiuk et al., BMVC 2018, arXiv 1806.07421"
    category = "perturbation"
    linear = True
    cost = "1 + masks"
    signed = False
    needs = ("stem",)
    variants: ClassVar = {
        "default": {"image": {"masks": 6000}, "text": {"masks": 200}},
        "paper": {"image": {"masks": 6000}, "text": {"masks": 200, "units": "tower"}},
    }

    masks: Samples
    share: Share = 0.1
    cells: Annotated[int, Range(1, 64)] = 8
    seed: Seed = 0
    error: StoppingRule = None

    def __post_init__(self) -> None:
        super().__post_init__()
        check_limit(self.error, self.views, self.amounts)

    def units_of(self, side: Side) -> Units:
        if not explains_pixels(side):
            return side.stem().units
        assert isinstance(side.tower, ImageTower)
        height, width = side.tower.extent(side.inputs)
        return Grid(min(_PARTS * self.cells, height), min(_PARTS * self.cells, width))

    def scores(self, side: Side, units: Units | Segments) -> UnitValues:
        return self.estimates(side, units).scores

    def estimates(self, side: Side, units: Units | Segments) -> Estimates:
        """Compute the scores of a batch; all items share the masks."""
        if self.error is None or len(side.inputs) == 1:
            return self._estimates(side, units)

        # each item alone, so that the masks of one do not depend on when others are done
        alone = [side.take([item]) for item in range(len(side.inputs))]
        items = [self._estimates(of_item, self.units_of(of_item)) for of_item in alone]
        scores, errors = (
            torch.cat([F.pad(values, (units.count - values.shape[1], 0)) for values in listed])
            for listed in ([item.scores for item in items], [item.error for item in items if item.error is not None])
        )
        counts = tuple(item.evaluations[0] for item in items)
        return Estimates(scores, errors, counts, tuple(item.shares[0] for item in items))

    def linear_vectors(self, side: Side) -> UnitVectors:
        check_no_limit(self.error)
        return super().linear_vectors(side)

    @torch.no_grad()
    def _estimates(self, side: Side, units: Units | Segments) -> Estimates:
        """Compute the scores until the error is small enough, if there is a limit, or for all masks."""
        if isinstance(units, Grid):
            return self._image_estimates(side, units)
        return self._caption_estimates(side)

    def nothing(self, side: Side, units: Units | Segments) -> PerExample:
        if isinstance(units, Grid):
            return super().nothing(side, units)
        stem = side.stem()
        with torch.no_grad():
            explained = _words(stem).explained.to(stem.hidden.device)
            return side.score(stem.rest((stem.hidden * ~explained[..., None])[None]))[0]

    def _image_estimates(self, side: Side, units: Grid) -> Estimates:
        assert isinstance(side.tower, ImageTower)
        height, width = side.tower.extent(side.inputs)
        grids, shifts = self._grids(height, width)
        # a log-probability has no zero of its own: it is measured from that of nothing
        start = super().nothing(side, units) if isinstance(side.units, SequenceUnits) else 0.0
        device = side.tower.example.device
        sums = _Sums(self.share, device)
        for chunk in self._chunks(side, sums):
            keep = _upsample(grids[chunk].to(device), shifts[chunk], height, width)
            scores = score_of_pixels(side, keep[:, None].expand(-1, len(side.inputs), -1, -1)) - start
            pooled = F.adaptive_avg_pool2d(keep[:, None], (units.rows, units.columns)).flatten(1)
            sums.add(scores, pooled)

        return sums.estimates(len(side.inputs))

    def _chunks(self, side: Side, sums: "_Sums") -> Iterator[slice]:
        """Yield the masks that go through the tower together, until the error is small enough."""
        first = 0
        for last in [self.masks] if self.error is None else rounds(self.masks, _FEWEST):
            for chunk in mask_chunks(side, last - first):
                yield slice(first + chunk.start, first + chunk.stop)
            first = last
            if self.error is not None and sums.estimates(1).shares[0] <= self.error:
                return

    def _grids(self, height: int, width: int) -> tuple[Float[Tensor, "mask row column"], list[list[int]]]:
        """Draw the cells that each mask keeps, and its shift, which is less than a cell."""
        draws = generator(self.seed)
        grids = draws.random((self.masks, self.cells, self.cells)) < self.share
        cell = [-(-height // self.cells), -(-width // self.cells)]
        return torch.from_numpy(grids.astype(np.float32)), draws.integers(0, cell, (self.masks, 2)).tolist()

    def _caption_estimates(self, side: Side) -> Estimates:
        stem = side.stem()
        units = _words(stem)
        explained = units.explained.to(stem.hidden.device)
        count = units.count
        first = torch.arange(count, device="cpu").repeat(len(explained), 1)
        sizes = torch.ones(len(explained), count, dtype=torch.float32, device="cpu")
        for item, players in enumerate(self.players(units, len(explained))):
            for rows in players:
                first[item, list(rows)], sizes[item, list(rows)] = rows[0], float(len(rows))

        drawn = [generator(self.seed, row).random(self.masks) < self.share for row in range(count)]
        # the draws of a word are those of its first row, and do not depend on the length
        keep = torch.from_numpy(np.stack(drawn, 1))[:, first].to(stem.hidden.device)
        sums = _Sums(self.share, stem.hidden.device, sizes, units.explained)
        for chunk in self._chunks(side, sums):
            scores = side.score(stem.rest(stem.hidden * (keep[chunk] | ~explained)[..., None]))
            sums.add(scores, keep[chunk])

        estimates = sums.estimates(len(side.inputs))
        if stem.units is units:
            return estimates

        scores, errors = (
            None if values is None else F.pad(values, (stem.units.count - count, 0))
            for values in (estimates.scores, estimates.error)
        )
        assert scores is not None
        return replace(estimates, scores=scores, error=errors)


class _Sums:
    """The sums over masks of the score of a mask times what it keeps, and of the squares.

    Args:
        share: The probability that a cell or a word is kept.
        device: The device of the sums.
        sizes: The number of tokens of each word, which share its score; None for an image.
        explained: The rows of words; None for an image.
    """

    def __init__(
        self, share: float, device: torch.device, sizes: Tensor | None = None, explained: Tensor | None = None
    ) -> None:
        self.share = share
        self.sizes = sizes
        self.explained = explained
        self.masks = 0
        self.total = torch.zeros((), dtype=torch.float32, device=device)
        self.squares = torch.zeros((), dtype=torch.float32, device=device)

    def add(self, scores: Float[Tensor, "mask batch *value"], keep: Tensor) -> None:
        """Add masks, whose ``keep`` is the same for all items, (mask, unit), or not, (mask, batch, unit)."""
        scores = scores.to(self.total)
        keep = keep.to(self.total)
        terms = f"mb...,{'mt' if keep.ndim == 2 else 'mbt'}->bt..."
        self.total = self.total + torch.einsum(terms, scores, keep)
        if scores.ndim == 2:  # vectors have no errors
            self.squares = self.squares + torch.einsum(terms, scores.square(), keep.square())
        self.masks += len(scores)

    def estimates(self, items: int) -> Estimates:
        """Return the scores of all masks so far, with their errors."""
        sizes = self.total.new_ones(self.total.shape[:2]) if self.sizes is None else self.sizes.to(self.total)
        parts = self.share * sizes.reshape(*sizes.shape, *(1,) * (self.total.ndim - 2))
        scores = self.total / (self.masks * parts)
        if self.total.ndim > 2:
            return Estimates(scores)

        sums, squares = (values.cpu().double().numpy() for values in (self.total, self.squares))
        errors = torch.from_numpy(mean_error(sums, squares, self.masks)).to(self.total) / parts
        rows = torch.ones_like(scores, dtype=torch.bool) if self.explained is None else self.explained.to(scores.device)
        shares = tuple(
            share_of_error(of_scores[kept].cpu().numpy(), of_errors[kept].cpu().numpy())
            for of_scores, of_errors, kept in zip(scores, errors, rows, strict=True)
        )
        return Estimates(scores, errors, (self.masks,) * items, shares)


def _words(stem: Cut) -> Words:
    """Return the words of a caption, or of a sequence with an image."""
    units = stem.units.words if isinstance(stem.units, SequenceUnits) else stem.units
    assert isinstance(units, Words)
    return units


def _upsample(
    grids: Float[Tensor, "mask row column"], shifts: list[list[int]], height: int, width: int
) -> Float[Tensor, "mask {height} {width}"]:
    """Upsample grids to one cell more than the image along each axis, and crop them at their shifts."""
    rows, columns = grids.shape[1:]
    size = (rows + 1) * -(-height // rows), (columns + 1) * -(-width // columns)
    wide = F.interpolate(grids[:, None], size, mode="bilinear")[:, 0]
    return torch.stack(
        [mask[top : top + height, left : left + width] for mask, (top, left) in zip(wide, shifts, strict=True)]
    )
