"""The vectors of units from integrals along a path: of NIB, and of integrated gradients.

Each view of an image and each layer of the method has a path of its own (``nibt.core.jacobians``), and the vectors
are the means over them.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import ClassVar

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from nibt.core.jacobians import part_masks, part_vectors_at, vjp_at
from nibt.core.quadrature import Nodes, nodes, refined
from nibt.core.refinement import Rows, integrate
from nibt.core.side import Side
from nibt.data.units import Grid, Units, special_token_share
from nibt.methods._vectors import PartValues, SideVectors, VectorScores
from nibt.methods._views import Views
from nibt.methods.base import Method
from nibt.models._trace import Cut
from nibt.options import OpenShare, Steps
from nibt.results.attribution import PathSummary, allowed
from nibt.types import Hidden


@dataclass(frozen=True)
class LayerPath:
    """The path of one example from the baseline to a layer, and the change of the unit embedding along it."""

    cut: Cut
    start: Hidden
    change: Float[Tensor, " dim"]
    method: "PathOptions"

    @property
    def rows(self) -> int:
        """The number of rows of a state, special tokens included."""
        return self.cut.hidden.shape[1]

    def paths(self) -> Iterator[Nodes]:
        """Yield the nodes of the rule; with a tolerance, then twice as many each time."""
        method = self.method
        return refined(method.quadrature, method.steps, method.floor, method.tolerance is not None)

    def allowed(self, change: Tensor) -> Tensor:
        """Return the largest allowed gap between a sum and a change."""
        return allowed(change, self.method.tolerance)


@dataclass(frozen=True)
class PathVectors(SideVectors):
    """The vectors of one example along a path for each view and layer; ``after`` is its mean unit embedding."""

    after: Float[Tensor, " dim"]
    paths: Sequence[Sequence[LayerPath]]
    views: Views | None
    method: "PathOptions"

    @classmethod
    def of(cls, side: Side, method: "PathOptions") -> "PathVectors":
        """Return the paths of a side with one example."""
        views = Views.of(side, method.views, method.layers)
        sides = list(views.sides(1)) if views else [side]
        ends = [F.normalize(view.trace.embedding, dim=-1)[0] for view in sides]
        paths = [_layer_paths(view, end, method) for view, end in zip(sides, ends, strict=True)]
        return cls(torch.stack(ends).mean(0), paths, views, method)

    @property
    def change(self) -> Float[Tensor, " dim"]:
        """The change of the unit embedding along the path, as the mean over layers and views."""
        return torch.stack([torch.stack([layer.change for layer in layers]).mean(0) for layers in self.paths]).mean(0)

    @property
    def units(self) -> Units:
        """The units of the first view at the first layer."""
        return self.paths[0][0].cut.units

    def of_words(self, groups: Sequence[Sequence[int]]) -> PartValues:
        change = self.change
        return PartValues.mean(self._integrate(lambda layer: vectors(layer, part_masks(groups, layer.rows), change)))

    def of_cells(self) -> tuple[PartValues, Grid]:
        grid = self.units
        assert isinstance(grid, Grid)
        change = self.change
        by_view = self._integrate(lambda layer: vectors(layer, _cell_masks(grid, layer.rows), change))
        cells, fine = self._blend(torch.stack([view.values[:-1].T for view in by_view]), grid)
        mean = PartValues.mean(by_view)
        return replace(mean, values=torch.cat([cells.T, mean.values.sum(0)[None] - cells.sum(1)[None]])), fine

    def scores(self, other_vectors: Float[Tensor, "vector dim"], shared_bound: bool = False) -> VectorScores:
        changes = other_vectors @ self.change
        largest = changes.abs().max().expand(len(other_vectors)) if shared_bound else changes
        by_view, units = self._integrate(lambda layer: scores(layer, other_vectors, largest)), self.units
        mean, kept = PartValues.mean(by_view), torch.stack([units.keep(view.values) for view in by_view])
        shares = torch.stack([special_token_share(view.values, units) for view in by_view])
        share = shares[0]
        if self.views is not None and isinstance(units, Grid):
            share = self.views.special_token_share(kept, units, shares)
        unit_scores, units = self._blend(kept, units) if isinstance(units, Grid) else (kept[0], units)
        others = mean.values.sum(-1) - unit_scores.sum(-1)
        return VectorScores(replace(mean, values=torch.cat([unit_scores, others[:, None]], 1)), units, share)

    def summary(self, other_vectors: Float[Tensor, "vector dim"], scores: VectorScores) -> PathSummary:
        return PathSummary(
            self.method.baseline,
            self.method.quadrature,
            self.method.layers,
            scores.parts.steps,
            at_input=other_vectors @ self.after,
            at_baseline=other_vectors @ (self.after - self.change),
            sum=scores.parts.values.sum(-1),
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
        paths.append(LayerPath(cut, start, after - F.normalize(before, dim=-1)[0], method))
    return paths


def _cell_masks(grid: Grid, count: int) -> Float[Tensor, "part token"]:
    """Return the share of each of ``count`` rows in each cell, and a last part for what is in no cell."""
    cells = grid.keep(torch.eye(count, dtype=torch.float32, device="cpu")).T
    return torch.cat([cells, 1 - cells.sum(0, keepdim=True)])


def vectors(layer: LayerPath, masks: Float[Tensor, "part token"], change: Float[Tensor, " dim"]) -> PartValues:
    """Compute the sum of P[t] over the rows of each part, (part, dim), up to a gap relative to ``change``."""
    bound = layer.allowed(change.norm())

    def vectors_at(positions: Sequence[float], _: Rows) -> Float[Tensor, "node 1 part dim"]:
        return part_vectors_at(layer.cut, layer.start, positions, masks, len(layer.change)).transpose(1, 2)

    def gaps(values: Float[Tensor, "1 part dim"], _: Rows) -> Float[Tensor, "1"]:
        return (values.sum(1) - layer.change).norm(dim=-1) / bound

    rows = torch.zeros(1, dtype=torch.int64, device=layer.change.device)
    result, steps = integrate(layer.paths(), vectors_at, rows, gaps, layer.method.tolerance)
    return PartValues(result[0], steps.expand(len(masks)), (gaps(result, rows) > 1).expand(len(masks)))


def scores(layer: LayerPath, other_vectors: Float[Tensor, "vector dim"], most: Float[Tensor, " vector"]) -> PartValues:
    """Compute P[t] . v for each vector v, (vector, token), by backward passes or from the P[t] of all rows."""
    expected, bound, dim = other_vectors @ layer.change, layer.allowed(most), len(layer.change)

    def scores_at(positions: Sequence[float], rows: Rows) -> Float[Tensor, "node row token"]:
        if len(rows) <= min(layer.rows, dim):
            return vjp_at(layer.cut, layer.start, positions, other_vectors[rows][:, None])[:, :, 0]
        single_rows = torch.eye(layer.rows, dtype=other_vectors.dtype, device=other_vectors.device)
        return other_vectors[rows] @ part_vectors_at(layer.cut, layer.start, positions, single_rows, dim)[:, :, 0].mT

    def gaps(values: Float[Tensor, "row token"], rows: Rows) -> Float[Tensor, " row"]:
        return (values.sum(-1) - expected[rows]).abs() / bound[rows]

    all_rows = torch.arange(len(other_vectors), device=other_vectors.device)
    result, steps = integrate(layer.paths(), scores_at, all_rows, gaps, layer.method.tolerance)
    return PartValues(result, steps, gaps(result, all_rows) > 1)


@dataclass(frozen=True)
class PathOptions(Method):
    """The options of methods with a path, and the vectors of their units.

    Args:
        baseline: The state at the start of the path: zero, blank, mean or mean:FILE.
        quadrature: The rule that places and weights the states at which gradients are taken.
        steps: The number of these states.
        floor: The lower end of the path for the rule ``geometric``.
    """

    baseline: str = "blank"
    quadrature: str = "gauss"
    steps: Steps = 4
    floor: OpenShare = 0.1
    tolerance: ClassVar[float | None] = None

    def linear_vectors(self, side: Side) -> SideVectors:
        """Integrate the vectors along the path, if that is how the method computes its scores."""
        return PathVectors.of(side, self)
