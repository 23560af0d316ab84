"""The vectors of the units of one side: the one place where tables and contributions get them.

Methods with a path integrate their vectors (``nibt.engine.path_vectors``). Others compute them as they compute scores,
with the unit embedding in place of the score (``Side.embedded``), or from a map for each axis of the embedding.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor
from typing_extensions import override

from nibt.core.side import Side
from nibt.data.units import Grid, Segments, Units
from nibt.engine.jacobians import part_masks
from nibt.engine.path_vectors import PathVectors
from nibt.engine.table_scores import AT_ONCE
from nibt.engine.vectors import PartValues, SideVectors, VectorScores, rest_share
from nibt.errors import BadOption
from nibt.methods._path import PathMethod
from nibt.methods._units import UnitMethod
from nibt.methods.base import Method
from nibt.methods.nib import NIB
from nibt.registry import available, find
from nibt.types import Embedding, PerExample


def side_vectors(side: Side, method: Method) -> SideVectors:
    """Return the vectors of a side with one example."""
    check_amounts(method)
    if isinstance(method, NIB) and method.noisy:
        raise BadOption(
            f"noise must be none where embeddings are narrowed (got {method.noise!r}): leave noise out, or use explain"
        )
    if method.linear and isinstance(method, NIB | PathMethod):
        return PathVectors.of(side, method)
    if method.linear and isinstance(method, UnitMethod):
        return UnitVectors.of(side, method)
    if method.linear:
        return UnitVectors.of_maps(side, method)
    able = ", ".join(linear_methods())
    raise BadOption(f"{method.name} is not linear in the target, so a unit has no vector: choose one of {able}")


def check_amounts(method: Method) -> None:
    """Check that the scores of a method are its own."""
    if method.amounts != "method":
        raise BadOption(
            f"amounts must be method for tables and vectors (got {method.amounts!r}): leave amounts out, or use explain"
        )


def linear_methods() -> list[str]:
    """Return the names of the methods whose units have vectors."""
    return [name for name in available("methods") if find("methods", name).linear]


@dataclass(frozen=True)
class UnitVectors(SideVectors):
    """Vectors that a method computes as it computes scores, without a path.

    Attributes:
        vectors: (unit + 1, dim), with zeros for special tokens; the last row is what views have in no cell.
        units: The units.
        before: The unit embedding of the input without any unit.

    """

    after: Float[Tensor, " dim"]
    before: Float[Tensor, " dim"]
    vectors: Float[Tensor, "unit dim"]
    units: Units

    @classmethod
    def of(cls, side: Side, method: UnitMethod) -> "UnitVectors":
        """Compute the vectors of a side with one example, as means over the views."""
        views = method.views_of(side)
        sides = [one.embedded() for one in (views.sides(1) if views else [side])]
        units = method.units_of(side)
        each = [_kept(method.scores(one, units)[0], units) for one in sides]
        after = torch.stack([one.value()[0] for one in sides]).mean(0)
        before = torch.stack([method.nothing(one, units)[0] for one in sides]).mean(0)
        if views is None:
            shown = units.grid if isinstance(units, Segments) else units
            return cls(after, before, F.pad(each[0], (0, 0, 0, 1)), shown.bare() if isinstance(shown, Grid) else shown)
        assert isinstance(units, Grid)
        maps = torch.stack(each).transpose(1, 2)
        fine, grid = views.blend(maps, units)
        rest = maps.sum(-1).mean(0) - fine.sum(-1)
        return cls(after, before, torch.cat([fine.T, rest[None]]), grid)

    @classmethod
    def of_maps(cls, side: Side, method: Method) -> "UnitVectors":
        """Compute the vectors of any linear method from its maps for each axis of the embedding."""
        unit = F.normalize(side.trace.embedding.detach(), dim=-1)[0]
        axes = torch.eye(len(unit), dtype=unit.dtype, device=unit.device)
        maps = []
        for part in axes.split(AT_ONCE):

            def score(embeddings: Embedding, part: Tensor = part) -> PerExample:
                return (F.normalize(embeddings, dim=-1) * part).sum(-1)

            maps.append(method(Side(side.model, side.trace.take([0] * len(part)), score, side.memory)))
        starts = [one.path.at_baseline for one in maps if one.path is not None]
        before = torch.cat(starts) if starts else F.normalize(side.blank(), dim=-1)[0]
        units, vectors = maps[0].units, F.pad(torch.cat([one.scores for one in maps]).T, (0, 0, 0, 1))
        return cls(unit, before, vectors, units.bare() if isinstance(units, Grid) else units)

    @property
    @override
    def change(self) -> Float[Tensor, " dim"]:
        return self.after - self.before

    @override
    def of_words(self, groups: Sequence[Sequence[int]]) -> PartValues:
        return PartValues.exact(part_masks(groups, len(self.vectors)).to(self.vectors) @ self.vectors)

    @override
    def of_cells(self) -> tuple[PartValues, Grid]:
        assert isinstance(self.units, Grid)
        return PartValues.exact(self.vectors), self.units

    @override
    def scores(self, aim: Float[Tensor, "vector dim"], together: bool = False) -> VectorScores:
        scores = aim @ self.vectors.to(aim).T
        return VectorScores(PartValues.exact(scores), self.units, rest_share(scores))


def _kept(vectors: Float[Tensor, "unit dim"], units: Units | Segments) -> Float[Tensor, "shown dim"]:
    """Return the vectors with zeros for special tokens; those of segments are spread over a grid."""
    if isinstance(units, Segments):
        return units.on_grid(vectors[None])[0]
    return vectors if isinstance(units, Grid) else units.keep(vectors.T).T
