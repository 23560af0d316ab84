"""The vectors of units without a path: as a method computes scores, or from a map for each axis of the embedding."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from nibt.core.side import Side
from nibt.data.units import Grid, Units, cells_of
from nibt.methods._vectors import PartValues, SideVectors, VectorScores, rest_share
from nibt.results.attribution import Attribution
from nibt.types import Embedding, PerExample

AT_ONCE = 8
"""The number of maps that are computed together."""


@dataclass(frozen=True)
class UnitVectors(SideVectors):
    """Vectors without a path, (unit + 1, dim), and the unit embeddings of the input with and without units."""

    after: Float[Tensor, " dim"]
    before: Float[Tensor, " dim"]
    vectors: Float[Tensor, "unit dim"]
    units: Units

    @classmethod
    def of_maps(cls, side: Side, method: Callable[[Side], Attribution]) -> "UnitVectors":
        """Compute the vectors of a linear method from its maps for each axis of the embedding."""
        unit = F.normalize(side.trace.embedding.detach(), dim=-1)[0]
        axes = torch.eye(len(unit), dtype=unit.dtype, device=unit.device)
        maps = []
        for chunk in axes.split(AT_ONCE):

            def score(embeddings: Embedding, chunk: Tensor = chunk) -> PerExample:
                return (F.normalize(embeddings, dim=-1) * chunk).sum(-1)

            maps.append(method(Side(side.model, side.trace.take([0] * len(chunk)), score, side.memory)))

        starts = [batch.path.at_baseline for batch in maps if batch.path is not None]
        before = torch.cat(starts) if starts else F.normalize(side.blank(), dim=-1)[0]
        units = maps[0].units
        vectors = F.pad(torch.cat([batch.scores for batch in maps]).T, (0, 0, 0, 1))
        return cls(unit, before, vectors, units.bare() if isinstance(units, Grid) else units)

    @property
    def change(self) -> Float[Tensor, " dim"]:
        return self.after - self.before

    def of_words(self, groups: Sequence[Sequence[int]]) -> PartValues:
        return PartValues.exact(part_masks(groups, len(self.vectors)).to(self.vectors) @ self.vectors)

    def of_cells(self) -> tuple[PartValues, Grid]:
        return PartValues.exact(self.vectors), cells_of(self.units)

    def scores(self, other_vectors: Float[Tensor, "vector dim"], shared_bound: bool = False) -> VectorScores:
        scores = other_vectors @ self.vectors.to(other_vectors).T
        return VectorScores(PartValues.exact(scores), self.units, rest_share(scores))


def part_masks(groups: Sequence[Sequence[int]], count: int) -> Float[Tensor, "part token"]:
    """Return a part for each group of rows, and a last part for all rows outside of the groups."""
    masks = torch.zeros(len(groups) + 1, count, dtype=torch.float32, device="cpu")
    for index, group in enumerate(groups):
        masks[index, list(group)] = 1
    masks[-1] = 1 - masks[:-1].sum(0)
    return masks
