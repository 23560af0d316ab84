"""Noun mass: the share of the absolute scores with the right sign in the right place.

    (positive score on the noun's own object + absolute negative score elsewhere) / all absolute score

Answers:
    Do the signs of a noun's map say where its object is and where it is not?

Range:
    0 to 1; about 1/2 for signs at random

Forward passes:
    none

Use it when:
    You read the signs of a table.

Avoid it when:
    The scores elsewhere ought to be zero rather than negative.

Source:
    nibt
"""

from dataclasses import dataclass

from jaxtyping import Float
from torch import Tensor

from nibt.table_metrics.base import Noun, TableInput, TableMetric, mean_over_nouns


@dataclass(frozen=True)
class NounMass(TableMetric):
    """The share of the absolute scores with the right sign in the right place."""

    better = "higher"

    def __call__(self, table_input: TableInput) -> float:
        return mean_over_nouns(table_input, _share)


def _share(pixels: Float[Tensor, "height width"], noun: Noun) -> float:
    exact = pixels.double()
    right = exact[noun.mask].clamp_min(0).sum() - exact[~noun.mask].clamp_max(0).sum()
    total = exact.abs().sum()
    return float(right / total) if total > 0 else 0.0


PLUGIN = NounMass
