"""Methods with a path: NIB, integrated gradients, and methods of one gradient, averaged along NIB's path.

The states of the path are z(l) = r + l (h - r), from a baseline r to the state h. A quadrature rule weights the scores
of these states, which are computed from h - r and the gradient at z(l).
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache

import torch
from jaxtyping import Float
from torch import Tensor

from nibt.core.quadrature import chunks, nodes, refined
from nibt.core.refinement import Rows, integrate
from nibt.core.side import Side
from nibt.core.stages import PathStage
from nibt.data.units import special_rows, special_tokens
from nibt.errors import BadOption
from nibt.methods._gradient import GradientMethod
from nibt.methods._path_vectors import PathOptions
from nibt.methods.base import average_layers
from nibt.options import Keywords, complete
from nibt.registry import available, find
from nibt.results.attribution import Attribution, PathSummary, allowed
from nibt.types import Hidden, PerExample, PerToken

Scores = Callable[[Hidden, Hidden], PerToken]
"""Computes the score of each row from h - r and the gradient at one state."""


@dataclass(frozen=True)
class PathMethod(PathOptions):
    """Base class of methods with a path."""

    def __post_init__(self) -> None:
        complete(self)
        nodes(self.quadrature, self.steps, self.floor)  # checks them
        if self.tolerance is not None and self.quadrature == "late":
            raise BadOption("quadrature must not be late with a tolerance, which takes more steps: use clenshaw_curtis")
        if self.baseline.partition(":")[0] not in ("zero", "blank", "mean"):
            raise BadOption(f"baseline must be zero, blank, mean or mean:FILE (got {self.baseline!r})")
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

        Args:
            stage: The first stage.
            scores: Computes the score of each row at one state.
            name: The name of the baseline; ``zero`` if the path starts at another state.
            change: The change of the score that the tolerance refers to; None means that along the path.
        """
        at_input, at_start = self.ends(stage, name or self.baseline)
        side, layer, (_, tokens, width) = stage.side, stage.layer, stage.start.shape
        of_stage, bound, rows = at_input - at_start, None, 0
        special = torch.zeros(1, tokens, dtype=torch.bool, device=stage.start.device)
        if self.distribute and layer:
            special = special_tokens(stage.cut.units, tokens).to(stage.start.device)
            rows = special_rows(special)
        if self.tolerance is not None:
            bound = allowed(of_stage if change is None else change, self.tolerance)
            bound = bound / (1 + (layer or 0)) if rows else bound  # each stage adds its gap
        values, steps = self.integrate(stage, scores, of_stage, bound, rows)
        total = values[:, :tokens]
        for number in range((layer or 0) - 1, -1, -1) if rows else ():
            weights = (values[:, tokens:].unflatten(1, (rows, width)) * special[:, :rows, None]).flatten(1)
            stage = PathStage.of_block(side, number, weights, rows)
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

        Args:
            stage: The stage.
            scores: Computes the score of each row at one state.
            change: The change of the stage's number.
            bound: The largest gap of the sum of the scores; None for the steps of the rule.
            special: The number of first rows whose gradients are averaged, too, and follow the scores.
        """
        side, count, tokens = stage.side, *stage.start.shape[:2]

        def values_at(positions: Sequence[float], rows: Rows) -> Float[Tensor, "node row value"]:
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

        def gaps(values: Float[Tensor, "row value"], rows: Rows) -> PerExample:
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


_PATHS: dict[str, Keywords] = {
    "default": {
        "image": {"baseline": "blank", "quadrature": "gauss", "steps": 4},
        "text": {"baseline": "blank", "quadrature": "gauss", "steps": 8},
    },
    "paper": {side: {"baseline": "zero", "quadrature": "riemann", "steps": 10} for side in ("image", "text")},
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
