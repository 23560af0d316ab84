"""Methods that score one state of one layer from the gradient there: what Grad-CAM is an example of.

Such a method is a function of two tensors, the state (or, on a path, what the state adds to a baseline) and the
gradient of the score. Said that way, it is also had along NIB's path: ``base_path.py``.
"""

from abc import abstractmethod
from dataclasses import dataclass

import torch

from nibt.core.side import Side
from nibt.data.units import Units
from nibt.methods._layers import averaged
from nibt.methods.base import Method
from nibt.results.attribution import Attribution
from nibt.types import Hidden, PerToken


@dataclass(frozen=True)
class GradientMethod(Method):
    """``layer``: one or several, whose maps are averaged."""

    layer: tuple[int, ...]

    @abstractmethod
    def scores(self, difference: Hidden, gradient: Hidden, units: Units) -> PerToken:
        """The score of each row, from what the state adds to the baseline (the state itself, where nothing is
        narrowed) and the gradient at one state. Pure; a rectifier belongs in here.
        """

    def __call__(self, side: Side) -> Attribution:
        """The map of each layer, averaged."""
        return averaged(side, self.layer, [self.at(side, layer) for layer in self.layer])

    def at(self, side: Side, layer: int) -> PerToken:
        """One layer: the gradient at the state itself."""
        cut = side.cut(layer)
        states = cut.hidden[None].detach().requires_grad_()
        with torch.enable_grad():
            (gradient,) = torch.autograd.grad(side.score(cut.rest(states)).sum(), states)
        return self.scores(cut.hidden, gradient[0], cut.units)
