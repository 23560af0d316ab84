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
from nibt.errors import BadOption
from nibt.methods._gradient import GradientMethod
from nibt.methods._path_vectors import PathOptions
from nibt.methods.base import average_layers
from nibt.models._trace import Cut
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

    def ends(
        self, side: Side, cut: Cut, layer: int | None, start: Hidden, name: str = "zero", low: float = 0.0
    ) -> tuple[PerExample, PerExample]:
        """Return the scores at the end and at the start of the path: of the baseline ``name``, or of another state."""
        with torch.no_grad():
            # the embedding of a blank input is a constant of the tower, which keeps it, so it takes no forward pass
            constant = name == "blank" and layer is not None
            end = side.blank() if constant else cut.rest((start + low * (cut.hidden - start))[None])[0]
            return side.score(side.trace.embedding), side.score(end)

    def integrate(
        self,
        side: Side,
        cut: Cut,
        layer: int | None,
        scores: Scores,
        start: Hidden | None = None,
        change: PerExample | None = None,
    ) -> tuple[PerToken, PathSummary]:
        """Average the scores of the rows along the path of a layer; with a tolerance, each item has its own steps."""
        count = len(side.trace.inputs.values)
        path, name = nodes(self.quadrature, self.steps, self.floor), "zero"
        if start is None:
            start, name = side.baseline(self.baseline, layer, cut.hidden), self.baseline
        first = start.expand_as(cut.hidden)
        at_input, at_start = self.ends(side, cut, layer, start, name, path.low)

        def scores_at(positions: Sequence[float], rows: Rows) -> Float[Tensor, "node row token"]:
            taken, cut_of, begin = side, cut, first
            if len(rows) < count:
                assert layer is not None
                taken = side.take(rows.tolist())
                cut_of, begin = taken.cut(layer), first[rows]
            difference = cut_of.hidden - begin
            at_once = None if side.memory is None else taken.at_once(layer, cut_of.hidden)
            maps = []
            for chunk in chunks(len(positions), cut_of.hidden, at_once=at_once):
                states = begin + difference.new_tensor(positions[chunk])[:, None, None, None] * difference
                maps += [scores(difference, gradient) for gradient in taken.gradient(cut_of, states)]
            return torch.stack(maps)

        rows = torch.arange(count, device=cut.hidden.device)
        if self.tolerance is None:
            values = scores_at(path.positions, rows)
            result = torch.tensordot(values.new_tensor(path.weights), values, 1)
            steps = result.new_full((count,), len(path.positions), dtype=torch.float32)
        else:
            bound = allowed(at_input - at_start if change is None else change, self.tolerance)

            def gaps(sums: PerToken, rows: Rows) -> PerExample:
                return ((at_input - at_start)[rows] - sums.sum(-1)).abs() / bound[rows]

            paths = refined(self.quadrature, self.steps, self.floor, True)
            result, steps = integrate(paths, scores_at, rows, gaps, self.tolerance)
        layers = () if layer is None else (layer,)
        return result, PathSummary(
            self.baseline, self.quadrature, layers, steps, at_input, at_start, result.sum(-1), self.tolerance
        )


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
            cut = side.cut(layer)
            results.append(self.integrate(side, cut, layer, lambda h, g, units=cut.units: self.scores(h, g, units)))
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
