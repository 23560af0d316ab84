"""The base class of methods that score a layer from its state and one gradient, such as Grad-CAM.

Such a method is a function of two tensors: the gradient of the score, and the state (or, along a path, the difference
of the state and a baseline). ``_path.py`` averages it along NIB's path.
"""

from abc import abstractmethod

from nibt.core.side import Side
from nibt.data.units import Units
from nibt.methods.base import LayerMethod, average_layers
from nibt.results.attribution import Attribution
from nibt.types import Hidden, PerToken


class GradientMethod(LayerMethod):
    """Base class of methods that score a layer from its state and one gradient."""

    @abstractmethod
    def scores(self, difference: Hidden, gradient: Hidden, units: Units) -> PerToken:
        """Compute the score of each row. A pure function; a rectifier belongs in here."""

    def attribute(self, side: Side) -> Attribution:
        return average_layers(side, self.layer, [self.layer_scores(side, layer) for layer in self.layer])

    def layer_scores(self, side: Side, layer: int) -> PerToken:
        """Compute the scores of one layer from the gradient at its state."""
        cut = side.cut(layer)
        return self.scores(cut.hidden, side.gradient(cut, cut.hidden[None])[0], cut.units)
