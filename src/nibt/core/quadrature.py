"""Straight paths through a hidden layer, and the gradient averaged along them.

A path runs from a baseline state r (position 0) to the hidden state h (position 1). Rules and formulas:
narrowing toward zero in n equal steps is the published rule (Zhu et al., ICLR 2025, eq. 12); Gauss-Legendre
converges geometrically where the path is smooth; toward zero it is smooth in the logarithm only. ``midpoint`` is what
integrated gradients usually take (Sundararajan et al., 2017).
"""

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from nibt.errors import BadOption
from nibt.progress import report
from nibt.types import Hidden, States

RULES = ("riemann", "gauss", "geometric", "midpoint")

AT_ONCE = 32
"""How many states, of whatever examples, go through a tower together at most."""
MOST_STEPS = 64
"""How many nodes a tolerance may lead to."""
BUDGET = 2**21
"""How many numbers these states hold at most: with a graph, a tower of 12 blocks keeps about 1 KB for each."""


@dataclass(frozen=True)
class Nodes:
    """Where on a path the gradient is taken, with what weight, and from where on the path the sum runs."""

    positions: tuple[float, ...]
    weights: tuple[float, ...]
    low: float = 0.0


def nodes(quadrature: str, steps: int, floor: float = 0.1) -> Nodes:
    """The positions and weights of a rule on [0, 1].

    >>> nodes("riemann", 2)
    Nodes(positions=(0.5, 1.0), weights=(0.5, 0.5), low=0.0)

    ``geometric`` integrates over the logarithm of the position, from ``floor`` to 1.

    Raises:
        BadOption: The rule is unknown, there is no step, or the floor is not inside (0, 1).

    """
    if quadrature not in RULES:
        raise BadOption(f"rule must be one of {', '.join(RULES)} (got {quadrature!r})")
    if steps < 1:
        raise BadOption(f"steps must be at least 1 (got {steps})")
    if quadrature in ("riemann", "midpoint"):
        shift = 0.5 if quadrature == "midpoint" else 0.0
        return Nodes(tuple((i - shift) / steps for i in range(1, steps + 1)), (1 / steps,) * steps)
    places, weights = np.polynomial.legendre.leggauss(steps)
    if quadrature == "gauss":
        return Nodes(tuple(map(float, (places + 1) / 2)), tuple(map(float, weights / 2)))
    if not 0 < floor < 1:
        raise BadOption(f"floor must lie between 0 and 1 (got {floor})")
    positions = np.exp((places - 1) / 2 * -math.log(floor))
    return Nodes(tuple(map(float, positions)), tuple(map(float, weights / 2 * -math.log(floor) * positions)), floor)


def refined(quadrature: str, steps: int, floor: float, more: bool) -> Iterator[Nodes]:
    """The nodes of a rule; then, where ``more`` may be asked for, twice as many each time, up to ``MOST_STEPS``.

    >>> [len(path.positions) for path in refined("gauss", 12, 0.1, True)]
    [12, 24, 48, 64]

    """
    yield nodes(quadrature, steps, floor)
    while more and steps < MOST_STEPS:
        steps = min(2 * steps, MOST_STEPS)
        yield nodes(quadrature, steps, floor)


def chunks(count: int, like: Tensor, times: int = 1, at_once: int | None = None) -> Iterator[slice]:
    """Which of ``count`` states of a batch go through a tower together; ``like`` is one state of the batch, ``times``
    says how much more than with a graph there is room for, and ``at_once`` how many there are, of whatever examples,
    where the caller knows.

    >>> [(part.start, part.stop) for part in chunks(5, torch.zeros(16, 7, 8))]
    [(0, 2), (2, 4), (4, 5)]
    """
    room = BUDGET // max(1, like.numel()) if at_once is None else count
    most = min((at_once or AT_ONCE) // max(1, len(like)), room) * times
    for first in range(0, count, max(1, most)):
        last = min(first + max(1, most), count)
        yield slice(first, last)
        report(last, count)


def gradients(
    score: Callable[[States], Float[Tensor, "node batch"]],
    start: Hidden,
    end: Hidden,
    path: Nodes,
    at_once: int | None = None,
) -> Iterator[tuple[Float[Tensor, " node"], States]]:
    """The gradients of ``score`` at the nodes of a straight path between two states, with the nodes' weights; as
    many at a time as go through together.
    """
    for part in chunks(len(path.positions), end, at_once=at_once):
        positions = end.new_tensor(path.positions[part])[:, None, None, None]
        states = (start + positions * (end - start)).detach().requires_grad_()
        with torch.enable_grad():
            (gradient,) = torch.autograd.grad(score(states).sum(), states)
        yield end.new_tensor(path.weights[part]), gradient


def mean_gradient(
    score: Callable[[States], Float[Tensor, "node batch"]],
    start: Hidden,
    end: Hidden,
    path: Nodes,
    at_once: int | None = None,
) -> Hidden:
    """The gradient of ``score`` averaged, with the weights of a rule, along the straight path between two states."""
    total = torch.zeros_like(end)
    for weights, found in gradients(score, start, end, path, at_once):
        total += (weights[:, None, None, None] * found).sum(0)
    return total
