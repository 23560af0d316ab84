"""Along NIB's path: what is computed from the gradient at one state, averaged with the weights of a rule over the
states z(l) = r + l (h - r) between a baseline and the state itself; h - r stands where the state would.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from typing import Any

import torch

from nibt.core.quadrature import gradients, nodes
from nibt.core.side import Side
from nibt.errors import BadOption
from nibt.methods._gradient import GradientMethod
from nibt.methods._layers import averaged, check_path
from nibt.methods.base import Method
from nibt.models._trace import Cut
from nibt.registry import available, find
from nibt.results.attribution import Attribution, PathSummary
from nibt.types import Hidden, PerToken

Scores = Callable[[Hidden, Hidden], PerToken]
"""From h - r and the gradient at one state to the score of each row."""


@dataclass(frozen=True)
class PathMethod(Method):
    """``baseline``: zero, blank, mean or mean:FILE.

    ``quadrature`` and ``steps``: where on the path gradients are taken; ``floor`` is the lower end of the rule
    ``geometric``.
    """

    baseline: str = "blank"
    quadrature: str = "gauss"
    steps: int = 4
    floor: float = 0.1

    def __post_init__(self) -> None:
        check_path(self.baseline, self.quadrature, self.steps, self.floor)
        getattr(super(), "__post_init__", lambda: None)()  # the checks of the method that goes along the path

    def narrowed(self, side: Side, cut: Cut, layer: int | None, scores: Scores) -> tuple[PerToken, PathSummary]:
        """The rows' scores, averaged along the path of a layer (None: of the first tokens), and what became of S."""
        baseline, path = side.baseline(self.baseline, layer, cut.hidden), nodes(self.quadrature, self.steps, self.floor)
        difference = cut.hidden - baseline
        exact = torch.promote_types(cut.hidden.dtype, torch.float32)  # many nodes are added up
        found = torch.zeros(cut.hidden.shape[:2], device=cut.hidden.device, dtype=exact)
        at_once = side.at_once(layer, cut.hidden)
        for weights, there in gradients(
            lambda states: side.score(cut.rest(states)), baseline, cut.hidden, path, at_once
        ):
            for weight, gradient in zip(weights, there, strict=True):
                found += weight * scores(difference, gradient)
        at_input = side.value()
        at_baseline = side.at_end(self.baseline, layer, cut, baseline + path.low * difference)
        total = found.sum(-1)
        return found, PathSummary(
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
    """What a method of one gradient becomes along the path; ``along_path`` puts the method itself behind it."""

    def __call__(self, side: Side) -> Attribution:
        """The map of each layer, averaged."""
        found = []
        for layer in self.layer:
            cut = side.cut(layer)
            found.append(self.narrowed(side, cut, layer, lambda h, g, units=cut.units: self.scores(h, g, units)))
        return averaged(side, self.layer, [rows for rows, _ in found], [told for _, told in found])


_PATHS: dict[str, dict[str, Any]] = {
    "default": {
        "image": {"baseline": "blank", "quadrature": "gauss", "steps": 4},
        "text": {"baseline": "blank", "quadrature": "gauss", "steps": 8},
    },
    "paper": {side: {"baseline": "zero", "quadrature": "riemann", "steps": 10} for side in ("image", "text")},
}


def along_path(name: str) -> type[GradientMethod]:
    """The method of that name along NIB's path, "NIB with X"; it takes the options of the path, too.

    Its layers are the method's own. The variant ``paper`` walks as the paper does, the others as NIB does by default.

    Raises:
        UnknownName: No method goes by that name.
        BadOption: The method is no function of one gradient of a layer.

    """
    kind = find("methods", name)
    if not issubclass(kind, GradientMethod):
        able = [other for other in available("methods") if issubclass(find("methods", other), GradientMethod)]
        raise BadOption(
            f"{name} cannot go along a path: it is not made of one gradient of a layer; those that are: "
            f"{', '.join(able) or 'none'}"
        )
    return walking(kind)


@cache
def walking(kind: type[GradientMethod]) -> type[GradientMethod]:
    """A method of one gradient as one that is averaged along the path."""
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
