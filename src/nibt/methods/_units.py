"""The base class of methods that score units directly, so that no score falls on rows without a unit."""

from abc import abstractmethod
from dataclasses import dataclass

import torch

from nibt.core.perturbation import masker
from nibt.core.side import Side
from nibt.data.units import Segments, Units, Words
from nibt.methods.base import Method
from nibt.results.attribution import Attribution
from nibt.types import PerExample, UnitValues


@dataclass(frozen=True)
class UnitMethod(Method):
    """Base class of methods that score units directly.

    A method that declares ``linear`` also computes vectors: with ``Side.embedded`` the score of an input is its unit
    embedding, and ``scores`` and ``nothing`` keep that last dimension.
    """

    @abstractmethod
    def scores(self, side: Side, units: Units | Segments) -> UnitValues:
        """Compute the scores of a batch: one column per cell of a grid, per row of a caption, or per segment.

        Columns of special tokens are dropped afterwards.
        """

    def units_of(self, side: Side) -> Units | Segments:
        """Return the units that are scored."""
        return side.units

    def nothing(self, side: Side, units: Units | Segments) -> PerExample:
        """Compute the score of the inputs without any unit, as this method removes units."""
        device = side.tower.example.device
        return masker(side, units)(torch.zeros(len(side.inputs), units.count, dtype=torch.float32, device=device))

    def attribute(self, side: Side) -> Attribution:
        """Compute the scores of a batch."""
        units = self.units_of(side)
        scores = self.scores(side, units)
        if isinstance(units, Segments):
            scores, units = units.on_grid(scores), units.grid
        elif isinstance(units, Words):
            scores = units.keep(scores)
        return Attribution(scores, units, scores.new_zeros(len(scores)))
