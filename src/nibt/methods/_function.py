"""Methods of plain functions: ``nibt.method``."""

from collections.abc import Callable
from dataclasses import dataclass
from inspect import signature

import torch

from nibt.core.side import Side
from nibt.data.units import Units
from nibt.errors import BadOption
from nibt.methods._path import GradientMethod
from nibt.methods.base import Method, average_layers
from nibt.options import Keywords, LayerOption, complete
from nibt.results.attribution import Attribution
from nibt.types import Hidden, PerToken

Function = Callable[[Hidden, Hidden], PerToken]


@dataclass(frozen=True)
class FunctionMethod(GradientMethod):
    """A function of a hidden state and its gradient.

    Args:
        layer: A layer, a list of layers, or a share of the depth.
        function: The function.
    """

    paper = "none: a function of the user"
    category = "gradient"
    cost = "3"

    layer: LayerOption
    function: Function

    def __post_init__(self) -> None:
        complete(self)
        name = getattr(self.function, "__name__", type(self.function).__name__)
        # a lambda has the name <lambda>, which is no name for files and plans
        object.__setattr__(self, "name", name if name.isidentifier() else "function")

    @property
    def layers(self) -> tuple[int, ...]:
        """No layer, since a share of the depth is one of each tower."""
        return ()

    def attribute(self, side: Side) -> Attribution:
        layers = side.tower.layers_of(self.layer)
        return average_layers(side, layers, [self.layer_scores(side, layer) for layer in layers])

    def scores(self, difference: Hidden, gradient: Hidden, units: Units) -> PerToken:
        try:
            scores = self.function(difference, gradient)
        except StopIteration as error:  # which would end a loop of nibt
            raise BadOption(f"the function {self.name} raised StopIteration: {self._expected(difference)}") from error

        if not isinstance(scores, torch.Tensor):
            raise BadOption(f"{self._expected(difference)} (got a {type(scores).__name__})")
        if scores.is_meta or scores.is_nested or scores.layout != torch.strided:
            kind = "on the meta device" if scores.is_meta else "nested" if scores.is_nested else str(scores.layout)
            raise BadOption(
                f"{self._expected(difference)} with values (got a tensor that is {kind}): return a dense one"
            )
        if scores.shape != difference.shape[:2]:
            raise BadOption(f"{self._expected(difference)} (got {list(scores.shape)})")
        return scores.detach()

    def _expected(self, difference: Hidden) -> str:
        shape = list(difference.shape[:2])
        name = "" if self.name == "function" else f" {self.name}"
        return f"the function{name} must return a score per token, a tensor of the shape {shape}"

    def options(self) -> Keywords:
        return {name: value for name, value in super().options().items() if name not in ("function", "name")}


def method(function: Function, *, layer: LayerOption = 0.65, views: int = 1) -> Method:
    """Make a method from a function of a hidden state and its gradient.

    Use the result in place of the name of a method. For options, variants or other computations, write a class
    (``nibt.Method``).

    Args:
        function: A function that takes the hidden state that enters the layer, and the gradient of the target with
            respect to it, tensors of the shape (batch, token, width). It returns the score of each token (batch,
            token).
        layer: A layer, a list of layers whose maps are averaged, or a share of the depth above 0 and below 1.
        views: The number of views of an image, 1 to 16, which add details to its map; captions have one. ``nib`` has
            three by default, so compare it with a function of three.

    Raises:
        BadOption: It is no function.

    Examples:
        >>> import nibt
        >>> @nibt.method
        ... def gradient_times_state(hidden, gradient):
        ...     return (hidden * gradient).sum(-1)
        >>> explanation = nibt.explain("scenes", "sample:scene", "a cat", gradient_times_state)
        >>> explanation.method["name"], explanation.grid.shape
        ('gradient_times_state', torch.Size([8, 8]))
    """
    if not callable(function) or isinstance(function, type | Method):
        raise BadOption(f"method takes a function of a hidden state and its gradient (got {function!r:.100})")
    if not _takes_two(function):
        raise BadOption(
            "the function of a method must take two arguments, a hidden state and its gradient (got "
            f"{getattr(function, '__name__', type(function).__name__)}{signature(function)})"
        )
    return FunctionMethod(layer, function, views=views)


def _takes_two(function: Function) -> bool:
    """Return whether a function can be called with two arguments; functions without a signature are not known to."""
    try:
        signature(function).bind(None, None)
    except TypeError:
        return False
    except ValueError:  # a builtin
        return True
    return True
