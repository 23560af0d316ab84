"""Methods of one gradient, averaged along NIB's path.

The states of the path are z(l) = r + l (h - r), from a baseline r to the state h. A quadrature rule weights the scores
of these states, which are computed from h - r and the gradient at z(l).
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from itertools import chain
from typing import Any

import torch

from nibt.core.quadrature import gradients, nodes
from nibt.core.side import Side
from nibt.errors import BadOption
from nibt.methods._gradient import GradientMethod
from nibt.methods._layers import average_layers, check_path
from nibt.methods.base import Method
from nibt.models._trace import Cut
from nibt.options import OpenShare, Steps
from nibt.registry import available, find
from nibt.results.attribution import Attribution, PathSummary
from nibt.types import Hidden, PerToken

Scores = Callable[[Hidden, Hidden], PerToken]
"""Computes the score of each row from h - r and the gradient at one state."""


@dataclass(frozen=True)
class PathMethod(Method):
    """Base class of methods with a path.

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

    def __post_init__(self) -> None:
        super().__post_init__()
        check_path(self.baseline, self.quadrature, self.steps, self.floor)

    def integrate(self, side: Side, cut: Cut, layer: int | None, scores: Scores) -> tuple[PerToken, PathSummary]:
        """Average the scores of the rows along the path of a layer, and summarize the path."""
        baseline, path = side.baseline(self.baseline, layer, cut.hidden), nodes(self.quadrature, self.steps, self.floor)
        difference = cut.hidden - baseline
        exact = torch.promote_types(cut.hidden.dtype, torch.float32)  # for a sum over many nodes
        result = torch.zeros(cut.hidden.shape[:2], device=cut.hidden.device, dtype=exact)
        at_once = side.at_once(layer, cut.hidden)
        batches = gradients(lambda states: side.score(cut.rest(states)), baseline, cut.hidden, path.positions, at_once)
        for weight, gradient in zip(path.weights, chain.from_iterable(batches), strict=True):
            result += weight * scores(difference, gradient)
        at_input = side.value()
        at_baseline = side.at_end(self.baseline, layer, cut, baseline + path.low * difference)
        total = result.sum(-1)
        return result, PathSummary(
            self.baseline,
            self.quadrature,
            () if layer is None else (layer,),
            torch.full_like(total, self.steps),
            at_input,
            at_baseline,
            total,
        )


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


_PATHS: dict[str, dict[str, Any]] = {
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
    kind = find("methods", name)
    if not issubclass(kind, GradientMethod):
        able = [other for other in available("methods") if issubclass(find("methods", other), GradientMethod)]
        raise BadOption(
            f"{name} cannot go along a path, since it is not computed from one gradient of a layer; use one of: "
            f"{', '.join(able) or 'none'}"
        )
    return with_path(kind)


@cache
def with_path(kind: type[GradientMethod]) -> type[GradientMethod]:
    """Return the class that averages a method of one gradient along the path."""
    variants = {
        variant: {side: {**_PATHS.get(variant, _PATHS["default"])[side], **own} for side, own in sides.items()}
        for variant, sides in kind.variants.items()
    }
    members = {
        "variants": variants,
        "cost": f"1 + steps x ({kind.cost})",
        "__doc__": kind.__doc__,
        "__module__": kind.__module__,
    }
    return dataclass(frozen=True)(type(f"{kind.__name__}AlongPath", (_AlongPath, kind), members))
