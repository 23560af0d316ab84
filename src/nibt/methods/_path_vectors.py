"""The vectors of units from integrals along a path: of NIB, and of integrated gradients.

Each view of an image and each layer of the method has a path of its own (``nibt.core.path_derivatives``), and the
vectors are the means over them.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from nibt.core.path_derivatives import jvp_at, normalized, part_vectors_at, vjp_at
from nibt.core.quadrature import PathRule, Rows, integrate
from nibt.core.side import Side
from nibt.data.units import Grid, Units, cells_of, special_token_share, special_tokens
from nibt.methods._unit_vectors import part_masks
from nibt.methods._vectors import PartValues, SideVectors, VectorScores
from nibt.methods._views import Views
from nibt.models._inputs import Cut
from nibt.results.attribution import PathSummary, allowed
from nibt.types import Hidden, PerExample


@dataclass(frozen=True)
class Stage:
    """A block of a tower, or the rest of it above a layer, and the path of its input.

    Attributes:
        cut: The tower cut there.
        start: The state at the start of the path.
        change: The change along the path of what is computed: of the unit embedding, or of the special tokens, in one
            row.
    """

    cut: Cut
    start: Hidden
    change: Float[Tensor, " value"]


@dataclass(frozen=True)
class LayerPath:
    """The path of one example from the baseline to a layer, and the change of the unit embedding along it.

    Attributes:
        cut: The tower cut at the layer, for unit embeddings.
        start: The baseline.
        change: The change of the unit embedding.
        rule: The rule of the integrals.
        below: The blocks before the layer and their baselines, the first block first, if special tokens distribute
            their vectors.
    """

    cut: Cut
    start: Hidden
    change: Float[Tensor, " dim"]
    rule: PathRule
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

    @cached_property
    def stages(self) -> list[Stage]:
        """The blocks below the layer, if special tokens distribute their vectors, and the rest of the tower."""
        rest = Stage(self.cut, self.start, self.change)
        after_blocks = [*self.below[1:], (self.cut, self.start)]

        blocks = []
        for (cut, start), (after, after_start) in zip(self.below, after_blocks, strict=False):
            of_special_tokens = (after.hidden - after_start)[0, : len(self.special)] * self.special[:, None]
            blocks.append(Stage(cut, start, of_special_tokens.flatten()))

        return [*blocks, rest]


@dataclass(frozen=True)
class PathVectors(SideVectors):
    """The vectors of one example along a path for each view and layer; the first view is the image as it is."""

    after: Float[Tensor, " dim"]
    paths: Sequence[Sequence[LayerPath]]
    views: Views | None
    rule: PathRule
    baseline: str
    layers: tuple[int, ...]

    @classmethod
    def of(
        cls, side: Side, rule: PathRule, baseline: str, layers: tuple[int, ...], distribute: bool, views: Views | None
    ) -> "PathVectors":
        """Return the paths of a side with one example.

        Args:
            side: The side.
            rule: The rule of the integrals.
            baseline: The name of the state at which each path starts.
            layers: The layers that are explained; empty for the first tokens.
            distribute: Whether special tokens distribute their vectors.
            views: The views of an image.
        """
        ends = []
        paths = []
        for view in list(views.sides(1)) if views else [side]:
            end = F.normalize(view.trace.embedding, dim=-1)[0]
            ends.append(end)
            paths.append([_layer_path(view, end, layer, rule, baseline, distribute) for layer in layers or (None,)])

        return cls(ends[0], paths, views, rule, baseline, layers)

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
        grid = cells_of(self.units)
        change = self.change
        by_view = self._integrate(lambda layer: vectors(layer, _cell_masks(grid, layer.rows), change))

        of_units = torch.stack([view.values[:-1].T for view in by_view])
        of_others = by_view[0].values[-1:]
        cells, fine = self._blend(of_units, grid)
        return replace(by_view[0], values=torch.cat([cells.T, of_others])), fine

    def scores(self, other_vectors: Float[Tensor, "vector dim"], shared_bound: bool = False) -> VectorScores:
        units = self.units
        changes = other_vectors @ self.change
        largest = changes.abs().max().expand(len(other_vectors)) if shared_bound else changes
        by_view = self._integrate(lambda layer: scores(layer, other_vectors, largest))

        plain = by_view[0]
        of_units = torch.stack([units.keep(view.values) for view in by_view])
        of_others = plain.values.sum(-1) - of_units[0].sum(-1)
        unit_scores, fine = self._blend(of_units, units) if isinstance(units, Grid) else (of_units[0], units)

        values = torch.cat([unit_scores, of_others[:, None]], 1)
        return VectorScores(replace(plain, values=values), fine, special_token_share(plain.values, units))

    def summary(self, other_vectors: Float[Tensor, "vector dim"], scores: VectorScores) -> PathSummary:
        return PathSummary(
            baseline=self.baseline,
            quadrature=self.rule.quadrature,
            layers=self.layers,
            steps=scores.parts.steps,
            at_input=other_vectors @ self.after,
            at_baseline=other_vectors @ (self.after - self.change),
            sum=scores.parts.values[:, :-1].sum(-1),
            special_tokens=scores.parts.values[:, -1],
            tolerance=self.rule.tolerance,
        )

    def _integrate(self, integral: Callable[[LayerPath], PartValues]) -> list[PartValues]:
        """Compute an integral for each view, as the mean over the layers."""
        return [PartValues.mean([integral(layer) for layer in layers]) for layers in self.paths]

    def _blend(self, values: Float[Tensor, "view row unit"], grid: Grid) -> tuple[Float[Tensor, "row cell"], Grid]:
        """Blend values on the units of each view; see ``Views.blend``."""
        return (values[0], grid.bare()) if self.views is None else self.views.blend(values, grid)


def _layer_path(
    side: Side, after: Float[Tensor, " dim"], layer: int | None, rule: PathRule, baseline: str, distribute: bool
) -> LayerPath:
    """Return the path at a layer, or at the first tokens (None), for a side with one example."""
    cut = side.stem() if layer is None else side.cut(layer)
    start = side.baseline(baseline, layer, cut.hidden)
    before = side.end(baseline, layer, cut, start + rule.nodes.low * (cut.hidden - start))
    change = after - F.normalize(before, dim=-1)[0]

    below = []
    _, special_rows = special_tokens(cut.units, start.shape[1])
    if distribute and layer and special_rows:
        for number in range(layer):
            block = side.trace.block(number, special_rows)
            below.append((block, side.tower.blank(side.inputs, number)))

    return LayerPath(normalized(cut), start, change, rule, tuple(below))


def _cell_masks(grid: Grid, count: int) -> Float[Tensor, "part token"]:
    """Return the share of each of ``count`` rows in each cell, and a last part for what is in no cell."""
    cells = grid.keep(torch.eye(count, dtype=torch.float32, device="cpu")).T
    return torch.cat([cells, 1 - cells.sum(0, keepdim=True)])


def vectors(layer: LayerPath, masks: Float[Tensor, "part token"], change: Float[Tensor, " dim"]) -> PartValues:
    """Compute the sum of P[t] over the rows of each part, (part, dim), up to a gap relative to ``change``.

    Each stage also takes what the special tokens carry of each part, from the blocks before.
    """
    tolerance = layer.rule.tolerance
    special = layer.special
    own_parts = masks.to(layer.start, copy=True)
    own_parts[:, : len(special)] *= 1 - special

    steps = layer.change.new_zeros(1)
    carried = None
    for stage in layer.stages[:-1]:
        bound = allowed(stage.change.norm(), tolerance) / len(layer.stages)
        directions = _directions(stage, own_parts, special, carried)
        of_stage, of_steps = _stage_vectors(layer, stage, masks, directions, bound)
        steps = torch.maximum(steps, of_steps)
        carried = of_stage.unflatten(-1, (len(special), -1))

    last = layer.stages[-1]
    bound = allowed(change.norm(), tolerance) / len(layer.stages)
    directions = _directions(last, own_parts, special, carried) if len(special) else None
    result, of_steps = _stage_vectors(layer, last, masks, directions, bound)
    steps = torch.maximum(steps, of_steps)

    missed = (result.sum(0) - layer.change).norm() > allowed(change.norm(), tolerance)
    return PartValues(result, steps.expand(len(masks)), missed.expand(len(masks)))


def _directions(
    stage: Stage, own_parts: Tensor, special: Tensor, carried: Tensor | None
) -> Float[Tensor, "part 1 token width"]:
    """Return the change of a state that each part stands for: of its own rows, and what special tokens carry of it."""
    difference = stage.cut.hidden - stage.start
    result = own_parts[:, None, :, None] * difference
    if carried is None:  # special tokens are constants of layer 0, or belong to no part
        result[-1, :, : len(special)] += special[:, None] * difference[:, : len(special)]
    else:
        result[:, 0, : len(special)] += special[:, None] * carried

    return result


def _stage_vectors(
    layer: LayerPath,
    stage: Stage,
    masks: Float[Tensor, "part token"],
    directions: Float[Tensor, "part 1 token width"] | None,
    bound: Tensor,
) -> tuple[Float[Tensor, "part dim"], PerExample]:
    """Compute what each part changes of what a stage computes, and the steps of its path.

    ``directions`` are the changes of the state that the parts stand for; None means those of the rows of ``masks``.
    """

    def values_at(positions: Sequence[float], _: Rows) -> Float[Tensor, "node 1 part dim"]:
        if directions is None:
            dim = len(layer.change)
            return part_vectors_at(stage.cut, stage.start, positions, masks, dim).transpose(1, 2)
        return jvp_at(stage.cut, stage.start, positions, directions).transpose(1, 2)

    def gaps(values: Float[Tensor, "1 part dim"], _: Rows) -> Float[Tensor, "1"]:
        return (values.sum(1) - stage.change).norm(dim=-1) / bound

    one_row = torch.zeros(1, dtype=torch.int64, device=layer.change.device)
    (result,), steps = integrate(layer.rule, values_at, one_row, gaps)
    return result, steps


def scores(layer: LayerPath, other_vectors: Float[Tensor, "vector dim"], most: Float[Tensor, " vector"]) -> PartValues:
    """Compute P[t] . v for each vector v, (vector, token), by backward passes or from the P[t] of all rows."""
    special = layer.special
    tokens = layer.rows
    count = len(other_vectors)
    bound = allowed(most, layer.rule.tolerance)

    if len(special) and count > min(tokens, len(layer.change)):
        each_row = torch.eye(tokens, dtype=other_vectors.dtype, device=other_vectors.device)
        of_rows = vectors(layer, each_row, layer.change)
        total = other_vectors @ of_rows.values.T
        steps = of_rows.steps[:1].expand(count)
    else:
        total = other_vectors.new_zeros(count, tokens)
        steps = bound.new_zeros(())
        cotangents = other_vectors
        for stage in reversed(layer.stages):
            # what special tokens have is divided among the rows that enter the block before
            values, of_steps = _stage_scores(layer, stage, cotangents, bound)
            total[:, : len(special)] *= 1 - special
            total = total + values[:, :tokens]
            steps = torch.maximum(steps, of_steps)
            cotangents = values[:, tokens:] * special.repeat_interleave(stage.start.shape[-1])

    missed = (total.sum(-1) - other_vectors @ layer.change).abs() > bound
    return PartValues(total, steps, missed)


def _stage_scores(
    layer: LayerPath, stage: Stage, cotangents: Tensor, bound: Tensor
) -> tuple[Float[Tensor, "vector value"], PerExample]:
    """Compute the scores of all rows at one stage for each cotangent, and the mean gradients at special tokens."""
    special_rows = len(layer.special)
    dim = len(layer.change)
    expected = cotangents @ stage.change

    def scores_at(positions: Sequence[float], rows: Rows) -> Float[Tensor, "node row value"]:
        chosen = cotangents[rows]
        if special_rows or len(rows) <= min(layer.rows, dim):
            return vjp_at(stage.cut, stage.start, positions, chosen[:, None], special=special_rows)[:, :, 0]
        each_row = torch.eye(layer.rows, dtype=cotangents.dtype, device=cotangents.device)
        return chosen @ part_vectors_at(stage.cut, stage.start, positions, each_row, dim)[:, :, 0].mT

    def gaps(values: Float[Tensor, "row value"], rows: Rows) -> Float[Tensor, " row"]:
        return (values[:, : layer.rows].sum(-1) - expected[rows]).abs() * len(layer.stages) / bound[rows]

    all_rows = torch.arange(len(cotangents), device=cotangents.device)
    return integrate(layer.rule, scores_at, all_rows, gaps)
