"""Straight paths through a hidden layer, and the gradient averaged along them.

A path runs from a reference state r (position 0) to the hidden state h (position 1). Rules and formulas:
narrowing toward zero in n equal steps is the published rule (Zhu et al., ICLR 2025, eq. 12); Gauss-Legendre
converges geometrically where the path is smooth; toward zero it is smooth in the logarithm only.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from nibt.errors import BadOption
from nibt.types import Hidden, States

RULES = ("riemann", "gauss", "geometric")


@dataclass(frozen=True)
class Nodes:
    """Where on a path the gradient is taken, with what weight, and from where on the path the sum runs."""

    positions: tuple[float, ...]
    weights: tuple[float, ...]
    low: float = 0.0


def nodes(rule: str, steps: int, floor: float = 0.1) -> Nodes:
    """The positions and weights of a rule on [0, 1].

    >>> nodes("riemann", 2)
    Nodes(positions=(0.5, 1.0), weights=(0.5, 0.5), low=0.0)

    ``geometric`` integrates over the logarithm of the position, from ``floor`` to 1.

    Raises:
        BadOption: the rule is unknown, there is no step, or the floor is not inside (0, 1).

    """
    if rule not in RULES:
        raise BadOption(f"rule must be one of {', '.join(RULES)} (got {rule!r})")
    if steps < 1:
        raise BadOption(f"steps must be at least 1 (got {steps})")
    if rule == "riemann":
        return Nodes(tuple(i / steps for i in range(1, steps + 1)), (1 / steps,) * steps)
    places, weights = np.polynomial.legendre.leggauss(steps)
    if rule == "gauss":
        return Nodes(tuple(map(float, (places + 1) / 2)), tuple(map(float, weights / 2)))
    if not 0 < floor < 1:
        raise BadOption(f"floor must lie between 0 and 1 (got {floor})")
    positions = np.exp((places - 1) / 2 * -math.log(floor))
    return Nodes(tuple(map(float, positions)), tuple(map(float, weights / 2 * -math.log(floor) * positions)), floor)


def mean_gradient(
    score: Callable[[States], Float[Tensor, "node batch"]], start: Hidden, end: Hidden, path: Nodes, at_once: int = 32
) -> Hidden:
    """The gradient of ``score`` averaged, with the weights of a rule, along the straight path between two states.

    Nodes go through together, as many as keep ``at_once`` states or fewer in one batch.
    """
    total = torch.zeros_like(end)
    together = max(1, at_once // max(1, len(end)))
    for first in range(0, len(path.positions), together):
        positions = end.new_tensor(path.positions[first : first + together])[:, None, None, None]
        weights = end.new_tensor(path.weights[first : first + together])[:, None, None, None]
        states = (start + positions * (end - start)).detach().requires_grad_()
        with torch.enable_grad():
            (gradient,) = torch.autograd.grad(score(states).sum(), states)
        total += (weights * gradient).sum(0)
    return total
