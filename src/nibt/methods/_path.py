"""Methods with a path: NIB, integrated gradients, and methods of one gradient, averaged along NIB's path.

The states of the path are z(l) = r + l (h - r), from a baseline r to the state h. A quadrature rule weights the scores
of these states, which are computed from h - r and the gradient at z(l).
"""

from abc import abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache

import torch
from jaxtyping import Float
from torch import Tensor

from nibt.core.quadrature import Rows, integrate, nodes, refined
from nibt.core.side import Side, chunks
from nibt.data.units import Units, special_tokens
from nibt.errors import BadOption
from nibt.methods._path_vectors import PathOptions
from nibt.methods.base import LayerMethod, Options, average_layers, both_sides
from nibt.models._trace import Cut
from nibt.options import complete
from nibt.registry import available, find
from nibt.results.attribution import Attribution, PathSummary, allowed
from nibt.types import AtNodes, Hidden, Modality, PerExample, PerToken


class GradientMethod(LayerMethod):
    """Base class of methods that score a layer from its state (or a difference of states) and one gradient."""

    @abstractmethod
    def scores(self, difference: Hidden, gradient: Hidden, units: Units) -> PerToken:
        """Compute the score of each row. A pure function; a rectifier belongs in here."""

    def attribute(self, side: Side) -> Attribution:
        return average_layers(side, self.layer, [self.layer_scores(side, layer) for layer in self.layer])

    def layer_scores(self, side: Side, layer: int) -> PerToken:
        """Compute the scores of one layer from the gradient at its state."""
        cut = side.cut(layer)
        return self.scores(cut.hidden, side.gradient(cut, cut.hidden[None])[0], cut.units)


Scores = Callable[[Hidden, Hidden], PerToken]
"""Computes the score of each row from h - r and the gradient at one state."""


@dataclass(frozen=True)
class PathStage:
    """A number that a state of a batch determines, and where the path of the state starts.

    What a special token carries at a layer, such as the class token, came from units at earlier layers. Let w be the
    mean gradient of the score at its row. One block below, w . block(z) is a number that the state z determines, with
    a path of its own from the baseline to the input. The gradients along it divide the score of the special tokens
    among all rows of the earlier layer. So it goes on, down to layer 0, where special tokens are constants and have
    no score.

    Attributes:
        side: The side of the batch.
        layer: The layer of the state; None for the first tokens.
        start: The state at the start of the path.
        cut: The tower cut at the layer, or one block of it.
        score: Computes the number from what ``cut`` computes: the score of the side, or a sum of special tokens.
        weights: The weights of this sum.
        baseline: The name of the state at which the path starts.
    """

    side: Side
    layer: int | None
    start: Hidden
    cut: Cut
    score: Callable[[Tensor], Tensor]
    weights: Float[Tensor, "batch value"] | None = None
    baseline: str = "blank"

    @classmethod
    def of_layer(cls, side: Side, layer: int | None, baseline: str) -> "PathStage":
        """Return the stage from a layer (None: from the first tokens) to the score, with a named baseline."""
        cut = side.stem() if layer is None else side.trace.cut(layer)
        start = side.baseline(baseline, layer, cut.hidden).expand_as(cut.hidden)
        return cls(side, layer, start, cut, side.score, baseline=baseline)

    @classmethod
    def of_block(
        cls, side: Side, number: int, weights: Float[Tensor, "batch value"], rows: int, baseline: str
    ) -> "PathStage":
        """Return the stage from the input of a block to the weighted sum of the first rows of its output."""
        cut = side.trace.block(number, rows)
        start = side.baseline(baseline, number, cut.hidden).expand_as(cut.hidden)
        return cls(side, number, start, cut, lambda values: (values * weights).sum(-1), weights, baseline)

    def take(self, rows: Sequence[int]) -> "PathStage":
        """Return the stage of the items at ``rows``."""
        side, layer = self.side.take(rows), self.layer
        assert layer is not None, "the first tokens are not cut for some items"
        if self.weights is not None:
            of_item = self.weights.shape[1] // self.start.shape[2]
            return PathStage.of_block(side, layer, self.weights[rows], of_item, self.baseline)
        return PathStage(side, layer, self.start[rows], side.trace.cut(layer), side.score, baseline=self.baseline)

    def change(self) -> PerExample:
        """Compute the change of the number of a block along the path, from recorded states."""
        assert self.layer is not None
        assert self.weights is not None
        after = self.layer + 1
        hidden = self.side.trace.cut(after).hidden
        change = hidden - self.side.baseline(self.baseline, after, hidden)
        return self.score(change.flatten(1)[:, : self.weights.shape[1]])


@dataclass(frozen=True)
class PathMethod(PathOptions):
    """Base class of methods with a path."""

    def __post_init__(self) -> None:
        complete(self)
        nodes(self.quadrature, self.steps, self.floor)  # checks them
        if self.tolerance is not None and self.quadrature == "late":
            raise BadOption("quadrature must not be late with a tolerance, which takes more steps: use clenshaw_curtis")
        if self.baseline.partition(":")[0] not in ("zero", "blank", "mean", "against"):
            raise BadOption(f"baseline must be zero, blank, mean, mean:FILE or against (got {self.baseline!r})")
        if self.quadrature == "geometric" and self.baseline != "zero":
            raise BadOption(
                f"quadrature geometric needs the baseline zero (got {self.baseline!r}); use gauss with other baselines"
            )

    def ends(self, stage: PathStage, name: str) -> tuple[PerExample, PerExample]:
        """Return the scores at the end and at the start of a path: of the baseline ``name``, or of another state."""
        side, cut, start = stage.side, stage.cut, stage.start
        low = nodes(self.quadrature, self.steps, self.floor).low
        end = side.end(name, stage.layer, cut, start + low * (cut.hidden - start))
        with torch.no_grad():
            return side.score(side.trace.embedding), side.score(end)

    def attribute_stages(
        self, stage: PathStage, scores: Scores, name: str = "", change: PerExample | None = None
    ) -> tuple[PerToken, PathSummary]:
        """Compute the scores of the rows of a layer or, if special tokens distribute theirs, of all stages.

        ``name`` is the baseline, or ``zero`` for a path from another state. The tolerance refers to ``change``; None
        is that of the score along the path.
        """
        at_input, at_start = self.ends(stage, name or self.baseline)
        side, layer, (_, tokens, width) = stage.side, stage.layer, stage.start.shape
        of_stage, bound, rows = at_input - at_start, None, 0
        special = torch.zeros(1, tokens, dtype=torch.bool, device=stage.start.device)
        if self.distribute and layer:
            special, rows = special_tokens(stage.cut.units, tokens)
            special = special.to(stage.start.device)
        if self.tolerance is not None:
            bound = allowed(of_stage if change is None else change, self.tolerance)
            bound = bound / (1 + (layer or 0)) if rows else bound  # each stage adds its gap
        values, steps = self.integrate(stage, scores, of_stage, bound, rows)
        total = values[:, :tokens]
        for number in range((layer or 0) - 1, -1, -1) if rows else ():
            weights = (values[:, tokens:].unflatten(1, (rows, width)) * special[:, :rows, None]).flatten(1)
            stage = PathStage.of_block(side, number, weights, rows, stage.baseline)
            of_stage = of_stage if bound is None else stage.change()
            values, steps_of_stage = self.integrate(stage, scores, of_stage, bound, rows)
            total, steps = total.masked_fill(special, 0) + values[:, :tokens], torch.maximum(steps, steps_of_stage)
        layers, sums = () if layer is None else (layer,), (total.sum(-1), torch.zeros_like(at_input))
        return total, PathSummary(
            self.baseline, self.quadrature, layers, steps, at_input, at_start, *sums, self.tolerance
        )

    def integrate(
        self, stage: PathStage, scores: Scores, change: PerExample, bound: PerExample | None, special: int
    ) -> tuple[Float[Tensor, "batch value"], PerExample]:
        """Average the scores along the path of a stage, and return the number of steps of each item.

        Without a ``bound`` of the gap to the ``change``, it takes the steps of the rule. The gradients of the first
        ``special`` rows are averaged, too, and follow the scores.
        """
        side, count, tokens = stage.side, *stage.start.shape[:2]

        def values_at(positions: Sequence[float], rows: Rows) -> AtNodes:
            taken = stage if len(rows) == count else stage.take(rows.tolist())
            hidden, start = taken.cut.hidden, taken.start
            difference, values = hidden - start, []
            at_once = None if side.memory is None else side.at_once(stage.layer, hidden)
            for chunk in chunks(len(positions), hidden, at_once=at_once):
                states = start + difference.new_tensor(positions[chunk])[:, None, None, None] * difference
                for gradient in side.gradient(taken.cut, states, taken.score):
                    of_rows = scores(difference, gradient)
                    values.append(torch.cat([of_rows, gradient[:, :special].flatten(1)], -1) if special else of_rows)
            return torch.stack(values)

        rows = torch.arange(count, device=stage.start.device)
        if bound is None:
            path = nodes(self.quadrature, self.steps, self.floor)
            values = values_at(path.positions, rows)
            steps = values.new_full((count,), len(path.positions), dtype=torch.float32)
            return torch.tensordot(values.new_tensor(path.weights), values, 1), steps

        def gaps(values: PerToken, rows: Rows) -> PerExample:
            return (change[rows] - values[:, :tokens].sum(-1)).abs() / bound[rows]

        paths = refined(self.quadrature, self.steps, self.floor, True)
        return integrate(paths, values_at, rows, gaps, self.tolerance)


def products(difference: Hidden, gradient: Hidden) -> PerToken:
    """Compute the score of each row of a path whose integrals add up: the sum over the channels of (h - r) dS/dz."""
    return (difference * gradient).sum(-1)


@dataclass(frozen=True)
class _AlongPath(PathMethod, GradientMethod):
    """Mixin that averages a method of one gradient along the path; ``with_path`` puts it before the method."""

    def attribute(self, side: Side) -> Attribution:
        """Compute the mean of the maps of all layers."""
        results = []
        for layer in self.layer:
            stage = PathStage.of_layer(side, layer, self.baseline)
            units = stage.cut.units
            results.append(self.attribute_stages(stage, lambda h, g, units=units: self.scores(h, g, units)))
        return average_layers(side, self.layer, [rows for rows, _ in results], [path for _, path in results])


_PATHS: dict[str, Mapping[Modality, Options]] = {
    "default": {
        "image": {"baseline": "blank", "quadrature": "gauss", "steps": 4},
        "text": {"baseline": "blank", "quadrature": "gauss", "steps": 8},
    },
    **both_sides(paper={"baseline": "zero", "quadrature": "riemann", "steps": 10}),
}


def along_path(name: str) -> type[GradientMethod]:
    """Return the named method averaged along NIB's path ("NIB with X"), with the options of the path added.

    The method keeps its own layers. The variant ``paper`` uses the path of NIB's variant ``paper``; the others use that
    of NIB's default.
    """
    method_class = find("methods", name)
    if not issubclass(method_class, GradientMethod):
        able = [method for method in available("methods") if issubclass(find("methods", method), GradientMethod)]
        raise BadOption(
            f"{name} cannot go along a path, since it is not computed from one gradient of a layer; use one of: "
            f"{', '.join(able) or 'none'}"
        )
    return with_path(method_class)


@cache
def with_path(method_class: type[GradientMethod]) -> type[GradientMethod]:
    """Return the class that averages a method of one gradient along the path."""
    variants = {
        variant: {side: {**_PATHS.get(variant, _PATHS["default"])[side], **options} for side, options in sides.items()}
        for variant, sides in method_class.variants.items()
    }
    members = {
        "variants": variants,
        "cost": f"1 + steps x ({method_class.cost})",
        "__doc__": method_class.__doc__,
        "__module__": method_class.__module__,
    }
    return dataclass(frozen=True)(type(f"{method_class.__name__}AlongPath", (_AlongPath, method_class), members))
