"""Base classes of methods that score units directly, so that no score falls on rows without a unit."""

from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, field
from math import ceil
from pathlib import Path
from typing import Annotated, ClassVar

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float
from torch import Tensor

from nibt.core.perturbation import masker
from nibt.core.side import Side
from nibt.data.images import SAMPLE
from nibt.data.pair import NOUNS
from nibt.data.segments import numbered, read_segments, superpixels
from nibt.data.units import Grid, Segments, SequenceUnits, Units, Words
from nibt.errors import BadOption, Unsupported
from nibt.methods._errors import Estimates
from nibt.methods._refined import FEWEST, refined_segments, removals
from nibt.methods._unit_vectors import UnitVectors
from nibt.methods._views import Views
from nibt.methods.base import Method
from nibt.models.base import ImageTower
from nibt.options import Either, Range, parsed
from nibt.results.attribution import Attribution
from nibt.types import PerExample, PerUnit, UnitValues

PlayerValues = Float[Tensor, "player *value"]
ColumnValues = Float[Tensor, "unit *value"]


class UnitMethod(Method):
    """Base class of methods that score units directly; linear ones keep a last dimension of the score."""

    @abstractmethod
    def scores(self, side: Side, units: Units | Segments) -> UnitValues:
        """Compute the scores of a batch: one column per cell of a grid, per row of a caption, or per segment."""

    def estimates(self, side: Side, units: Units | Segments) -> Estimates:
        """Compute the scores of a batch with their errors, for methods that estimate scores from random draws."""
        return Estimates(self.scores(side, units))

    def units_of(self, side: Side) -> Units | Segments:
        """Return the units that are scored."""
        return side.units

    def nothing(self, side: Side, units: Units | Segments) -> PerExample:
        """Compute the score of the inputs without any unit, as this method removes units."""
        device = side.tower.example.device
        return masker(side, units)(torch.zeros(len(side.inputs), units.count, dtype=torch.float32, device=device))

    def linear_vectors(self, side: Side) -> UnitVectors:
        """Compute the vectors as scores are computed, with embeddings in place of scores."""
        views = Views.of(side, self.views)
        sides = [view.embedded() for view in (views.sides(1) if views else [side])]
        units = self.units_of(side)
        vectors = [_kept(self.scores(view, units)[0], units) for view in sides]
        after = sides[0].value()[0]
        before = self.nothing(sides[0], units)[0]
        if views is None:
            cells = units.grid if isinstance(units, Segments) else units
            cells = cells.bare() if isinstance(cells, Grid) else cells
            return UnitVectors(after, before, F.pad(vectors[0], (0, 0, 0, 1)), cells)

        assert isinstance(units, Grid)
        maps = torch.stack(vectors).transpose(1, 2)
        fine, grid = views.blend(maps, units)
        rest = maps[0].sum(-1) - fine.sum(-1)
        return UnitVectors(after, before, torch.cat([fine.T, rest[None]]), grid)

    def attribute(self, side: Side) -> Attribution:
        units = self.units_of(side)
        estimates = self.estimates(side, units)
        scores = _of_units(estimates.scores, units)
        return Attribution(
            scores,
            units.grid if isinstance(units, Segments) else units,
            scores.new_zeros(len(scores)),
            error=None if estimates.error is None else _of_units(estimates.error, units),
            evaluations=estimates.evaluations,
            notes=estimates.notes(getattr(self, "error", None), NOUNS[side.tower.modality]),
        )


def _of_units(scores: Float[Tensor, "batch column"], units: Units | Segments) -> PerUnit:
    """Return the scores of a batch with zeros for special tokens; those of segments are spread over a grid."""
    if isinstance(units, Segments):
        return units.on_grid(scores)
    if isinstance(units, Words):
        return units.keep(scores)
    if isinstance(units, SequenceUnits):
        count = units.grid.count
        return torch.cat([scores[:, :count], units.words.keep(scores[:, count:])], 1)
    return scores


def _kept(vectors: Float[Tensor, "unit dim"], units: Units | Segments) -> Float[Tensor, "shown dim"]:
    """Return the vectors with zeros for special tokens; those of segments are spread over a grid."""
    if isinstance(units, Segments):
        return units.on_grid(vectors[None])[0]
    return vectors if isinstance(units, Grid) else units.keep(vectors.T).T


def explains_pixels(side: Side) -> bool:
    """Return whether the cells of an image are explained, and not only words."""
    return isinstance(side.tower, ImageTower) and getattr(side.units, "with_image", True)


@dataclass(frozen=True)
class PlayerMethod(UnitMethod):
    """Base class of methods whose players are units, or words, which share their score equally among their tokens.

    Args:
        units: ``words`` of a caption, or ``tower`` (tokens).
    """

    units: Annotated[str, Either(("words", "tower"))] = field(default="words", kw_only=True)

    def players(self, units: Units | Segments, count: int) -> list[list[tuple[int, ...]]]:
        """Return the players of each of ``count`` items, each with its columns of the scores."""
        if isinstance(units, Segments):
            return [[(segment,) for segment in range(number)] for number in units.counts]
        if isinstance(units, Grid):
            return [[(cell,) for cell in range(units.count)]] * count
        if isinstance(units, SequenceUnits):
            return self._players_of_sequence(units, count)
        if self.units == "tower":
            return [[(row,) for row in rows.nonzero()[:, 0].tolist()] for rows in units.explained.cpu()]
        return [[word.tokens for word in words] for words in units.words]

    def _players_of_sequence(self, units: SequenceUnits, count: int) -> list[list[tuple[int, ...]]]:
        """Return the cells of the image, if they are explained, and the words after them."""
        first_word = units.grid.count
        players = []
        for words in self.players(units.words, count):
            shifted = [tuple(column + first_word for column in columns) for columns in words]
            cells = self.players(units.grid, 1)[0] if units.with_image else []
            players.append([*cells, *shifted])

        return players


def keep_players(
    coalitions: Bool[np.ndarray, "coalition player"], players: Sequence[tuple[int, ...]], count: int
) -> Float[Tensor, "coalition unit"]:
    """Return masks over ``count`` columns that keep the players of each coalition, and all columns without a player."""
    rows, owners = _columns(players)
    keep = torch.ones(len(coalitions), count, dtype=torch.float32, device="cpu")
    keep[:, rows] = torch.from_numpy(coalitions[:, owners]).float()
    return keep


def coalition_masks(
    games: Sequence[Bool[np.ndarray, "_coalition _player"]], players: Sequence[Sequence[tuple[int, ...]]], count: int
) -> Float[Tensor, "coalition item unit"]:
    """Return the masks of each item's coalitions; items with fewer than others have masks of ones at the end."""
    keep = torch.ones(max(map(len, games)), len(players), count, dtype=torch.float32, device="cpu")
    for item, (coalitions, item_players) in enumerate(zip(games, players, strict=True)):
        keep[: len(coalitions), item] = keep_players(coalitions, item_players, count)
    return keep


def share_equally(values: PlayerValues, players: Sequence[tuple[int, ...]], count: int) -> ColumnValues:
    """Return the scores of ``count`` columns: an equal share of the value of a player for each of its columns."""
    rows, owners = _columns(players)
    sizes = values.new_tensor([len(columns) for columns in players]).reshape(-1, *(1,) * (values.ndim - 1))
    scores = values.new_zeros(count, *values.shape[1:])
    scores[rows] = (values / sizes)[owners]
    return scores


def _columns(players: Sequence[tuple[int, ...]]) -> tuple[list[int], list[int]]:
    """Return the columns of all players, and the player of each of these columns."""
    pairs = [(column, player) for player, columns in enumerate(players) for column in columns]
    return [column for column, _ in pairs], [player for _, player in pairs]


UnitCount = Annotated[int, Range(FEWEST, 10_000)]


@dataclass(frozen=True)
class SegmentMethod(PlayerMethod):
    """Base class of methods whose units may be segments of the image.

    Args:
        units: ``words``, ``tower`` (tokens), ``segments`` (superpixels), ``segments:FILE``, or ``refined:NUMBER``: so
            many blocks of cells at most, which are small where their removal changes the target most. They are found by
            removals, which are added to the cost.
        segments: The intended number of superpixels.
    """

    removes_single_units: ClassVar[bool] = False
    """Whether inputs are changed only by the removal of one unit."""

    units: str = field(default="words", kw_only=True)
    segments: Annotated[int, Range(2, 10_000)] = field(default=40, kw_only=True)

    def __post_init__(self) -> None:
        super().__post_init__()
        if self._segmented and self.units.partition(":")[0] not in ("segments", "refined"):
            raise BadOption(
                f"units must be words, tower, segments, segments:FILE or refined:NUMBER (got {self.units!r})"
            )
        if self.units == "segments:":
            raise BadOption(f"units must name a file after segments: (got {self.units!r})")
        if self._segmented and self.views > 1:
            raise BadOption(f"views must be 1 with segments or refined units (got {self.views})")
        _ = self.refined  # whose number is checked

    @property
    def _segmented(self) -> bool:
        """Whether the units of images are segments, or blocks of cells."""
        return self.units not in ("words", "tower")

    @property
    def refined(self) -> int | None:
        """The largest number of units that are refined where scores are large; None for other units."""
        kind, _, number = self.units.partition(":")
        return parsed("the number after refined:", number, UnitCount) if kind == "refined" else None

    def cost_formula(self) -> str:
        if self.refined is not None:
            return f"{self.cost.replace('units', str(self.refined))} + about {removals(self.refined)}"
        return self.cost.replace("units", "segments") if self._segmented else self.cost

    def changed_inputs(self, units: int) -> int:
        """Return about how many changed inputs of one item differ from each other.

        Args:
            units: The number of units, unless they are refined.
        """
        if self.refined is None:
            return min(ceil(self.forwards(0, units)), 2**units)
        if self.removes_single_units:  # as refinement has done
            return removals(self.refined)
        return min(ceil(self.forwards(0, units)), 2**self.refined + removals(self.refined))

    def units_of(self, side: Side) -> Units | Segments:
        if not self._segmented or not explains_pixels(side):
            return side.units
        if self.refined is not None:
            return refined_segments(side, self.refined)
        labels = [self._labels(side, item) for item in range(len(side.inputs))]
        return Segments(torch.from_numpy(np.stack(labels)), tuple(int(segments.max()) + 1 for segments in labels))

    def linear_vectors(self, side: Side) -> UnitVectors:
        self.check_target()
        return super().linear_vectors(side)

    def check_target(self) -> None:
        """Check that the units do not depend on the target, for vectors of units, which serve any target."""
        if self.refined is not None:
            raise BadOption(
                f"units must be words, tower or segments for tables and vectors (got {self.units!r}): refined units "
                "depend on the target"
            )

    def _labels(self, side: Side, item: int) -> np.ndarray:
        """Return the segment of each pixel of the tower's input."""
        pixels = side.inputs.values[item]
        if pixels.ndim != 3:
            raise Unsupported(
                f"units must be words or tower for a {type(side.tower).__name__}, whose input is not the pixels of one "
                "image"
            )
        if self.units != "segments" and not side.inputs.around:
            raise Unsupported(f"units cannot come from a file for a {type(side.tower).__name__}: write units=segments")
        if self.units == "segments":
            return superpixels(pixels.float().permute(1, 2, 0).cpu().numpy(), self.segments)

        image = side.inputs.around[item].image
        region = side.inputs.regions[item]
        file = self.units.partition(":")[2].replace("{stem}", Path(image.source.removeprefix(SAMPLE)).stem)
        image_labels = read_segments(file, image.size)
        down = _places(region.top, region.height, pixels.shape[1], image.size[1])
        across = _places(region.left, region.width, pixels.shape[2], image.size[0])
        return numbered(image_labels[down][:, across])


def _places(start: float, length: float, count: int, size: int) -> np.ndarray:
    """Return the pixel of the image at the center of each of ``count`` pixels of a part of it, or the nearest one."""
    centers = start + (np.arange(count) + 0.5) * length / count
    return np.clip(np.floor(centers).astype(int), 0, size - 1)
