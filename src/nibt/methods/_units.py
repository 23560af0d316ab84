"""The base class of methods that score units directly, so that no score falls on rows without a unit."""

from abc import abstractmethod
from dataclasses import dataclass

from nibt.core.side import Side
from nibt.data.units import Units, Words
from nibt.methods.base import Method
from nibt.results.attribution import Attribution
from nibt.types import PerUnit


@dataclass(frozen=True)
class UnitMethod(Method):
    """Base class of methods that score units directly."""

    @abstractmethod
    def scores(self, side: Side, units: Units) -> PerUnit:
        """Compute the scores of a batch: one column per cell of a grid, or per row of a caption.

        Columns of special tokens are dropped afterwards.
        """

    def attribute(self, side: Side) -> Attribution:
        """Compute the scores of a batch."""
        units = side.units
        scores = self.scores(side, units)
        if isinstance(units, Words):
            scores = units.keep(scores)
        return Attribution(scores, units, scores.new_zeros(len(scores)))
