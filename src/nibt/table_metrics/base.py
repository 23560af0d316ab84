"""The contract of table metrics: a metric measures the word-region table of one pair."""

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar, Literal

import numpy as np
from jaxtyping import Bool, Float
from torch import Tensor

from nibt.core.side import Side
from nibt.metrics.base import SharedValues
from nibt.options import complete
from nibt.registry import Plugin
from nibt.results.attribution import to_pixels
from nibt.results.regions import Regions


@dataclass(frozen=True)
class Noun:
    """A word, or several, that names an object of the image.

    Attributes:
        words: The positions of its words in the table.
        mask: True on the visible pixels of its object.
        others: The masks of the other objects.

    """

    words: tuple[int, ...]
    mask: Bool[Tensor, "height width"]
    others: tuple[Bool[Tensor, "height width"], ...]


@dataclass(frozen=True)
class TableInput(SharedValues):
    """The input of a table metric.

    Attributes:
        table: The table.
        image: The image side of the pair.
        text: The text side.
        nouns: The nouns whose objects are known.

    """

    table: Regions
    image: Side
    text: Side
    nouns: tuple[Noun, ...] = ()

    def pixels(self, noun: Noun) -> Float[Tensor, "height width"]:
        """Return the map of a noun, resized bilinearly to the pixels of the region that the model sees."""
        return to_pixels(self.table.for_words(*noun.words), *noun.mask.shape).cpu()


@dataclass(frozen=True)
class TableMetric(Plugin, ABC):
    """Base class of table metrics: one number per table. The options of a metric are its dataclass fields.

    A table that lacks what the metric needs, such as the object of a noun, gets NaN.

    Attributes:
        better: Which values are better.

    """

    better: ClassVar[Literal["higher", "lower", "neither"]]

    def __post_init__(self) -> None:
        complete(self)

    @abstractmethod
    def __call__(self, table_input: TableInput) -> float:
        """Compute the number of one table."""


def mean_over_nouns(table_input: TableInput, number: Callable[[Float[Tensor, "height width"], Noun], float]) -> float:
    """Return the mean of a number of the map of each noun and its objects; NaN without a noun."""
    values = [number(table_input.pixels(noun), noun) for noun in table_input.nouns]
    return float(np.nanmean(values)) if values and not np.isnan(values).all() else float("nan")
