"""The vectors of units from integrals along a path: of NIB, and of integrated gradients.

Each view of an image and each layer of the method has a path of its own (``nibt.core.quadrature``), and the vectors
are the means over them.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import ClassVar

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from nibt.core.quadrature import (
    Nodes,
    Rows,
    integrate,
    jvp_at,
    nodes,
    normalized,
    part_masks,
    part_vectors_at,
    refined,
    vjp_at,
)
from nibt.core.side import Side
from nibt.data.units import Grid, Units, cells_of, special_token_share, special_tokens
from nibt.methods._vectors import PartValues, SideVectors, VectorScores
from nibt.methods._views import Views
from nibt.methods.base import Method
from nibt.models._trace import Cut
from nibt.options import OpenShare, Steps
from nibt.results.attribution import PathSummary, allowed
from nibt.types import Hidden, PerExample


@dataclass(frozen=True)
class LayerPath:
    """The path of one example from the baseline to a layer, and the change of the unit embedding along it.

    Attributes:
        cut: The tower cut at the layer, for unit embeddings.
        start: The baseline.
        change: The change of the unit embedding.
        method: The method.
        below: The blocks before the layer and their baselines, the first block first, if special tokens distribute
            their vectors.
    """

    cut: Cut
    start: Hidden
    change: Float[Tensor, " dim"]
    method: "PathOptions"
    below: tuple[tuple[Cut, Hidden], ...] = ()

    @property
    def rows(self) -> int:
        """The number of rows of a state, special tokens included."""
        return self.cut.hidden.shape[1]

    @cached_property
    def special(self) -> Float[Tensor, " row"]:
        """Which of the first rows are special tokens that distribute their vectors, as 1 and 0; empty without any."""
        special, rows = special_tokens(self.cut.units, self.rows)
        return special[0, : rows if self.below else 0].to(self.start)

    @property
    def stages(self) -> list[tuple[Cut, Hidden, Tensor]]:
        """The blocks and the rest of the tower, with their baselines and the changes of what they compute."""
        ends = [*self.below[1:], (self.cut, self.start)] if self.below else []
        changes = [
            ((cut.hidden - start)[0, : len(self.special)] * self.special[:, None]).flatten() for cut, start in ends
        ]
        stages = [(cut, start, change) for (cut, start), change in zip(self.below, changes, strict=True)]
        return [*stages, (self.cut, self.start, self.change)]

    def paths(self) -> Iterator[Nodes]:
        """Yield the nodes of the rule; with a tolerance, then twice as many each time."""
        method = self.method
        return refined(method.quadrature, method.steps, method.floor, method.tolerance is not None)


@dataclass(frozen=True)
class PathVectors(SideVectors):
    """The vectors of one example along a path for each view and layer; the first view is the image as it is."""

    after: Float[Tensor, " dim"]
    paths: Sequence[Sequence[LayerPath]]
    views: Views | None
    method: "PathOptions"

    @classmethod
    def of(cls, side: Side, method: "PathOptions") -> "PathVectors":
        """Return the paths of a side with one example."""
        views = Views.of(side, method.views, method.layers, method.lowest)
        sides = list(views.sides(1)) if views else [side]
        ends = [F.normalize(view.trace.embedding, dim=-1)[0] for view in sides]
        paths = [_layer_paths(view, end, method) for view, end in zip(sides, ends, strict=True)]
        return cls(ends[0], paths, views, method)

    @property
    def change(self) -> Float[Tensor, " dim"]:
        """The change of the unit embedding along the path, as the mean over layers."""
        return torch.stack([layer.change for layer in self.paths[0]]).mean(0)

    @property
    def units(self) -> Units:
        """The units of the first view at the first layer."""
        return self.paths[0][0].cut.units

    def of_words(self, groups: Sequence[Sequence[int]]) -> PartValues:
        change = self.change
        return self._integrate(lambda layer: vectors(layer, part_masks(groups, layer.rows), change))[0]

    def of_cells(self) -> tuple[PartValues, Grid]:
        grid, change = cells_of(self.units), self.change
        by_view = self._integrate(lambda layer: vectors(layer, _cell_masks(grid, layer.rows), change))
        cells, fine = self._blend(torch.stack([view.values[:-1].T for view in by_view]), grid)
        return replace(by_view[0], values=torch.cat([cells.T, by_view[0].values[-1:]])), fine

    def scores(self, other_vectors: Float[Tensor, "vector dim"], shared_bound: bool = False) -> VectorScores:
        changes = other_vectors @ self.change
        largest = changes.abs().max().expand(len(other_vectors)) if shared_bound else changes
        by_view, units = self._integrate(lambda layer: scores(layer, other_vectors, largest)), self.units
        plain, kept = by_view[0], torch.stack([units.keep(view.values) for view in by_view])
        others = plain.values.sum(-1) - kept[0].sum(-1)
        unit_scores, fine = self._blend(kept, units) if isinstance(units, Grid) else (kept[0], units)
        values = torch.cat([unit_scores, others[:, None]], 1)
        return VectorScores(replace(plain, values=values), fine, special_token_share(plain.values, units))

    def summary(self, other_vectors: Float[Tensor, "vector dim"], scores: VectorScores) -> PathSummary:
        return PathSummary(
            self.method.baseline,
            self.method.quadrature,
            self.method.layers,
            scores.parts.steps,
            at_input=other_vectors @ self.after,
            at_baseline=other_vectors @ (self.after - self.change),
            sum=scores.parts.values[:, :-1].sum(-1),
            special_tokens=scores.parts.values[:, -1],
            tolerance=self.method.tolerance,
        )

    def _integrate(self, integral: Callable[[LayerPath], PartValues]) -> list[PartValues]:
        """Compute an integral for each view, as the mean over the layers."""
        return [PartValues.mean([integral(layer) for layer in layers]) for layers in self.paths]

    def _blend(self, values: Float[Tensor, "view row unit"], grid: Grid) -> tuple[Float[Tensor, "row cell"], Grid]:
        """Blend values on the units of each view; see ``Views.blend``."""
        return (values[0], grid.bare()) if self.views is None else self.views.blend(values, grid)


def _layer_paths(side: Side, after: Float[Tensor, " dim"], method: "PathOptions") -> list[LayerPath]:
    """Return the path at each layer of a method, or at the first tokens, for a side with one example."""
    low, paths = nodes(method.quadrature, method.steps, method.floor).low, []
    for layer in method.layers or (None,):
        cut = side.stem() if layer is None else side.cut(layer)
        start = side.baseline(method.baseline, layer, cut.hidden)
        before = side.end(method.baseline, layer, cut, start + low * (cut.hidden - start))
        change, below = after - F.normalize(before, dim=-1)[0], []
        if method.distribute and layer and (rows := special_tokens(cut.units, start.shape[1])[1]):
            below = [(side.trace.block(number, rows), side.tower.blank(side.inputs, number)) for number in range(layer)]
        paths.append(LayerPath(normalized(cut), start, change, method, tuple(below)))
    return paths


def _cell_masks(grid: Grid, count: int) -> Float[Tensor, "part token"]:
    """Return the share of each of ``count`` rows in each cell, and a last part for what is in no cell."""
    cells = grid.keep(torch.eye(count, dtype=torch.float32, device="cpu")).T
    return torch.cat([cells, 1 - cells.sum(0, keepdim=True)])


def vectors(layer: LayerPath, masks: Float[Tensor, "part token"], change: Float[Tensor, " dim"]) -> PartValues:
    """Compute the sum of P[t] over the rows of each part, (part, dim), up to a gap relative to ``change``.

    Each stage also takes what the special tokens carry of each part, from the blocks before.
    """
    special, rows = layer.special, torch.zeros(1, dtype=torch.int64, device=layer.change.device)
    own_parts, steps, carried = masks.to(layer.start, copy=True), layer.change.new_zeros(1), None
    own_parts[:, : len(special)] *= 1 - special
    result, tolerance = layer.change, layer.method.tolerance
    for cut, start, wanted in layer.stages:
        directions = _directions(cut.hidden - start, own_parts, special, carried) if len(special) else None
        bound = allowed(change.norm() if wanted is layer.change else wanted.norm(), tolerance) / (1 + len(layer.below))

        def values_at(
            positions: Sequence[float],
            _: Rows,
            cut: Cut = cut,
            start: Hidden = start,
            directions: Tensor | None = directions,
        ) -> Float[Tensor, "node 1 part dim"]:
            if directions is not None:
                return jvp_at(cut, start, positions, directions).transpose(1, 2)
            return part_vectors_at(cut, start, positions, masks, len(layer.change)).transpose(1, 2)

        def gaps(
            values: Float[Tensor, "1 part dim"], _: Rows, wanted: Tensor = wanted, bound: Tensor = bound
        ) -> Float[Tensor, "1"]:
            return (values.sum(1) - wanted).norm(dim=-1) / bound

        (result,), of_stage = integrate(layer.paths(), values_at, rows, gaps, tolerance)
        steps = torch.maximum(steps, of_stage)
        carried = None if wanted is layer.change else result.unflatten(-1, (len(special), -1))
    missed = (result.sum(0) - layer.change).norm() > allowed(change.norm(), tolerance)
    return PartValues(result, steps.expand(len(masks)), missed.expand(len(masks)))


def _directions(
    difference: Hidden, own: Tensor, special: Tensor, carried: Tensor | None
) -> Float[Tensor, "part 1 token width"]:
    """Return the change of a state that each part stands for: of its own rows, and what special tokens carry of it."""
    result = own[:, None, :, None] * difference
    if carried is None:  # special tokens are constants of layer 0, or belong to no part
        result[-1, :, : len(special)] += special[:, None] * difference[:, : len(special)]
    else:
        result[:, 0, : len(special)] += special[:, None] * carried
    return result


def scores(layer: LayerPath, other_vectors: Float[Tensor, "vector dim"], most: Float[Tensor, " vector"]) -> PartValues:
    """Compute P[t] . v for each vector v, (vector, token), by backward passes or from the P[t] of all rows."""
    special, tokens, count, bound = layer.special, layer.rows, len(other_vectors), allowed(most, layer.method.tolerance)
    if len(special) and count > min(tokens, len(layer.change)):
        of_rows = vectors(
            layer, torch.eye(tokens, dtype=other_vectors.dtype, device=other_vectors.device), layer.change
        )
        total, steps = other_vectors @ of_rows.values.T, of_rows.steps[:1].expand(count)
    else:
        total, steps, cotangents = other_vectors.new_zeros(count, tokens), bound.new_zeros(()), other_vectors
        for cut, start, change in reversed(layer.stages):
            values, of_stage = _scores_of_stage(layer, (cut, start), cotangents, cotangents @ change, bound)
            total[:, : len(special)] *= 1 - special
            total, steps = total + values[:, :tokens], torch.maximum(steps, of_stage)
            cotangents = values[:, tokens:] * special.repeat_interleave(start.shape[-1])
    missed = (total.sum(-1) - other_vectors @ layer.change).abs() > bound
    return PartValues(total, steps, missed)


def _scores_of_stage(
    layer: LayerPath, stage: tuple[Cut, Hidden], cotangents: Tensor, expected: Tensor, bound: Tensor
) -> tuple[Float[Tensor, "vector value"], PerExample]:
    """Compute the scores of all rows at one stage for each cotangent, and the mean gradients at special tokens."""
    (cut, start), count, dim = stage, len(layer.special), len(layer.change)

    def scores_at(positions: Sequence[float], rows: Rows) -> Float[Tensor, "node row value"]:
        if count or len(rows) <= min(layer.rows, dim):
            return vjp_at(cut, start, positions, cotangents[rows][:, None], special=count)[:, :, 0]
        single_rows = torch.eye(layer.rows, dtype=cotangents.dtype, device=cotangents.device)
        return cotangents[rows] @ part_vectors_at(cut, start, positions, single_rows, dim)[:, :, 0].mT

    def gaps(values: Float[Tensor, "row value"], rows: Rows) -> Float[Tensor, " row"]:
        return (values[:, : layer.rows].sum(-1) - expected[rows]).abs() * (1 + len(layer.below)) / bound[rows]

    all_rows = torch.arange(len(cotangents), device=cotangents.device)
    return integrate(layer.paths(), scores_at, all_rows, gaps, layer.method.tolerance)


@dataclass(frozen=True)
class PathOptions(Method):
    """The options of methods with a path, and the vectors of their units.

    Args:
        baseline: The state at the start of the path: ``zero``, ``blank``, ``mean``, ``mean:FILE``, or for images
            ``against``, the state of the image in ``against_images``.
        quadrature: The rule that places and weights the states at which gradients are taken.
        steps: The number of these states.
        floor: The lower end of the path for the rule ``geometric``.
    """

    baseline: str = "blank"
    quadrature: str = "gauss"
    steps: Steps = 4
    floor: OpenShare = 0.1
    tolerance: ClassVar[float | None] = None
    distribute: ClassVar[bool] = False
    conditions: ClassVar = {"floor": ("quadrature", ("geometric",))}

    def linear_vectors(self, side: Side) -> SideVectors:
        """Integrate the vectors along the path, if that is how the method computes its scores."""
        return PathVectors.of(side, self)
