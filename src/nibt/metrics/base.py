"""A metric measures one batch of attributions of one side."""

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import ClassVar, Literal

from nibt.attribution import Attribution
from nibt.side import Side
from nibt.types import PerExample


@dataclass(frozen=True)
class Trial:
    """All that a metric sees: the side and its attribution."""

    side: Side
    attribution: Attribution


class Metric(ABC):
    """A number for each example; the class says which way is better."""

    better: ClassVar[Literal["higher", "lower"]]

    @abstractmethod
    def __call__(self, trial: Trial) -> PerExample:
        """The numbers of a batch."""
