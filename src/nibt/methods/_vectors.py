"""The vectors of the units of one input, for methods that are linear in the target, and tables of words and patches.

The cosine is u . v with the unit embeddings u of this side and v of the other. A method whose scores are linear in it
has a vector for each unit: P[i] . v is the score of unit i for any v, and for vectors Q[j] of the other side P Q^T is
the table of both. A method declares it by ``Method.linear``, and ``Method.vectors`` returns them: as integrals
(``_path_vectors.py``), as the method computes scores (``Side.embedded``), or from a map for each axis of the embedding
(``_unit_vectors.py``).
"""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from nibt.data.units import Grid, Units
from nibt.results.attribution import PathSummary
from nibt.types import PerExample


@dataclass(frozen=True)
class PartValues:
    """Vectors of parts, (part, dim), or scores, (vector, token), with steps and missed tolerances by row."""

    values: Tensor
    steps: PerExample
    missed: Bool[Tensor, " row"]

    @classmethod
    def exact(cls, values: Tensor) -> "PartValues":
        """Return values that were not computed along a path."""
        steps = values.new_zeros(len(values))
        return cls(values, steps, steps > 0)

    @classmethod
    def mean(cls, results: "Sequence[PartValues]") -> "PartValues":
        """Return the mean over layers or views, with the largest number of steps."""
        values = torch.stack([result.values for result in results]).mean(0)
        steps = torch.stack([result.steps for result in results]).amax(0)
        return cls(values, steps, torch.stack([result.missed for result in results]).any(0))


@dataclass(frozen=True)
class VectorScores:
    """The scores of units for several vectors, (vector, unit + 1); the last column has what belongs to no unit."""

    parts: PartValues
    units: Units
    special_token_share: PerExample


def rest_share(scores: Float[Tensor, "*batch unit"]) -> Float[Tensor, "*batch"]:
    """Return the share of the absolute score in the last column, which belongs to no unit."""
    return scores[..., -1].abs() / scores.abs().sum(-1).clamp_min(1e-30)


class SideVectors(ABC):
    """The vectors of the units of one image or caption; ``after`` is its unit embedding."""

    after: Float[Tensor, " dim"]

    @property
    @abstractmethod
    def change(self) -> Float[Tensor, " dim"]:
        """Return the change of the unit embedding."""

    @abstractmethod
    def of_words(self, groups: Sequence[Sequence[int]]) -> PartValues:
        """Compute the vector of each group of token rows, and last that of all other rows: (group + 1, dim)."""

    @abstractmethod
    def of_cells(self) -> tuple[PartValues, Grid]:
        """Compute the vector of each cell, and last that of all other tokens: (cell + 1, dim)."""

    @abstractmethod
    def scores(self, other_vectors: Float[Tensor, "vector dim"], shared_bound: bool = False) -> VectorScores:
        """Compute the scores of the units for vectors of the other side."""

    def summary(self, other_vectors: Float[Tensor, "vector dim"], scores: VectorScores) -> PathSummary | None:
        """Return the summary of the path, with an item per vector; None for methods without a path."""
        return None


@dataclass(frozen=True)
class TableScores:
    """The scores of a table; the last row and column have all tokens that are no words or patches."""

    scores: Float[Tensor, "word patch"]
    grid: Grid
    product: float
    steps: Mapping[str, int] | None = None
    notes: tuple[str, ...] = ()
