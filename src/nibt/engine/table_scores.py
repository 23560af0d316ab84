"""What each way to compute a words x patches table returns."""

from collections.abc import Mapping
from dataclasses import dataclass

from jaxtyping import Float
from torch import Tensor

from nibt.data.units import Grid


@dataclass(frozen=True)
class TableScores:
    """The scores of a table.

    Attributes:
        scores: (word + 1, patch + 1). The last row has all other tokens of the caption, the last column all image
            tokens that are no patches.
        grid: The grid of the patches.
        product: The exact sum of all scores.
        steps: The steps of each side, for methods with a path.
        notes: Warnings for the reader.

    """

    scores: Float[Tensor, "word patch"]
    grid: Grid
    product: float
    steps: Mapping[str, int] | None = None
    notes: tuple[str, ...] = ()
