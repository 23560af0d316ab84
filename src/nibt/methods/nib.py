"""The Narrowing Information Bottleneck (Zhu et al., ICLR 2025, arXiv 2502.14889).

A hidden layer is narrowed along a straight path, z(l) = r + l (h - r), from the state itself to a baseline that
says nothing. What a token's share of the state adds to the score on the way is its score. Deterministic: no
noise, no training. With r = 0 this is the published method; why a baseline is better: ``docs/methods.md``.
"""

from dataclasses import dataclass
from typing import ClassVar

import torch
from jaxtyping import Bool
from torch import Tensor

from nibt.core.quadrature import Nodes, mean_gradient, refined
from nibt.core.side import Side
from nibt.errors import BadOption
from nibt.methods._layers import averaged, check_path
from nibt.methods.base import Method
from nibt.models._trace import Cut
from nibt.results.attribution import Attribution, PathSummary, allowed
from nibt.types import Hidden, PerExample, PerToken


@dataclass(frozen=True)
class NIB(Method):
    """``layer``: one or several, averaged.

    ``baseline``: zero, blank, mean or mean:FILE. ``quadrature`` and ``steps``: where on the path gradients are taken;
    ``floor`` is the lower end of the rule ``geometric``. With a ``tolerance`` the steps are doubled, to 64 at most,
    until the gap is below that share of the change.
    """

    paper = "Zhu et al., ICLR 2025, arXiv 2502.14889"
    cost = "1 + 2 x steps x (1 - layer / depth)"
    variants: ClassVar = {
        "default": {
            "image": {"layer": 0.6, "baseline": "blank", "quadrature": "gauss", "steps": 4},
            "text": {"layer": 0, "baseline": "blank", "quadrature": "gauss", "steps": 8},
        },
        "paper": {
            side: {"layer": 0.75, "baseline": "zero", "quadrature": "riemann", "steps": 10}
            for side in ("image", "text")
        },
    }

    layer: tuple[int, ...]
    baseline: str = "blank"
    quadrature: str = "gauss"
    steps: int = 4
    floor: float = 0.1
    tolerance: float | None = None

    def __post_init__(self) -> None:
        check_path(self.baseline, self.quadrature, self.steps, self.floor)
        if self.tolerance is not None and not self.tolerance > 0:
            raise BadOption(f"tolerance must be above 0 (got {self.tolerance})")

    def __call__(self, side: Side) -> Attribution:
        """Narrow each layer, and average."""
        runs = [self._narrowed(side, layer) for layer in self.layer]
        return averaged(side, self.layer, [scores for scores, _ in runs], [told for _, told in runs])

    def _narrowed(self, side: Side, layer: int) -> tuple[PerToken, PathSummary]:
        """One layer; with a tolerance, as many nodes as each item needs, whatever its batch mates need."""
        cut = side.cut(layer)
        baseline = side.baseline(self.baseline, layer, cut.hidden)
        paths = refined(self.quadrature, self.steps, self.floor, self.tolerance is not None)
        first = next(paths)
        at_input = side.value()
        at_baseline = side.at_end(self.baseline, layer, cut, baseline + first.low * (cut.hidden - baseline))
        change = at_input - at_baseline
        at_once = side.at_once(layer, cut.hidden)
        found = self._along(first, side, cut, baseline, change, at_once)
        for path in paths:
            missed = found.gap > allowed(change, self.tolerance)
            if not missed.any():
                break
            found = found.where(missed, self._along(path, side, cut, baseline, change, at_once))
        return found.scores, PathSummary(
            self.baseline,
            self.quadrature,
            (layer,),
            found.steps,
            at_input,
            at_baseline,
            found.scores.sum(-1),
            self.tolerance,
        )

    def _along(
        self, path: Nodes, side: Side, cut: Cut, baseline: Hidden, change: PerExample, at_once: int | None
    ) -> "_Found":
        gradient = mean_gradient(lambda states: side.score(cut.rest(states)), baseline, cut.hidden, path, at_once)
        scores = ((cut.hidden - baseline) * gradient).sum(-1)
        gap = (scores.sum(-1) - change).abs()
        return _Found(scores, gap, torch.full_like(gap, len(path.positions)))


@dataclass(frozen=True)
class _Found:
    """What one sum along a path found: scores, how far they are from complete, and with how many nodes."""

    scores: PerToken
    gap: PerExample
    steps: PerExample

    def where(self, missed: Bool[Tensor, " batch"], better: "_Found") -> "_Found":
        """The better answer for the items that need it, and this one for the others."""
        return _Found(
            torch.where(missed[:, None], better.scores, self.scores),
            torch.where(missed, better.gap, self.gap),
            torch.where(missed, better.steps, self.steps),
        )


PLUGIN = NIB
