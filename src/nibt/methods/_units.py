"""Methods that score the units themselves, so that nothing lies on rows that stand for no unit."""

from abc import abstractmethod
from dataclasses import dataclass

from nibt.core.side import Side
from nibt.data.units import Units, Words
from nibt.methods.base import Method
from nibt.results.attribution import Attribution
from nibt.types import PerUnit


@dataclass(frozen=True)
class UnitMethod(Method):
    @abstractmethod
    def scores(self, side: Side, units: Units) -> PerUnit:
        """The scores of a batch: a column for each cell of a grid, or for each row of a caption (those of special
        tokens are dropped).
        """

    def __call__(self, side: Side) -> Attribution:
        units = side.units
        scores = self.scores(side, units)
        if isinstance(units, Words):
            scores = units.keep(scores)
        return Attribution(scores, units, scores.new_zeros(len(scores)))
