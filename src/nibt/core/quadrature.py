"""Straight paths through a hidden layer, and quadrature rules for the mean gradient along them.

A path runs from a baseline state r (position 0) to the hidden state h (position 1). ``riemann``, n equal steps, is the
published rule (Zhu et al., ICLR 2025, eq. 12). ``gauss`` (Gauss-Legendre) converges geometrically where the score is
smooth along the path. ``geometric`` is for paths to zero, along which the score is smooth only in the logarithm of the
position. ``midpoint`` is the usual rule of integrated gradients (Sundararajan et al., 2017). ``late`` is a single node
at two thirds of the path, the Gauss rule for weights that grow with the position: scores tell places well, but do not
add up to the change of the target. ``clenshaw_curtis`` (Clenshaw and Curtis, 1960) converges nearly as fast as
``gauss``, and the nodes of n intervals are also nodes of 2 n, so that more steps keep all gradients.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache

import numpy as np
import torch
from torch import Tensor

from nibt.errors import BadOption
from nibt.progress import LISTENER, Progress, no_progress

RULES = ("riemann", "gauss", "geometric", "midpoint", "late", "clenshaw_curtis")
LATE = 2 / 3  # the position of the node of ``late``

AT_ONCE = 32
"""The largest number of states, over all examples, that go through a tower together."""
MOST_STEPS = 64
"""The largest number of steps that a tolerance leads to; intervals for ``clenshaw_curtis``, which has one node more."""
BUDGET = 2**21
"""The largest number of values in these states; with a graph, a tower of 12 blocks keeps about 1 KB per value."""


@dataclass(frozen=True)
class Nodes:
    """The nodes of a quadrature rule on a path.

    Attributes:
        positions: The positions at which the gradient is taken.
        weights: The weight of each position.
        low: The position from which the integral runs.
    """

    positions: tuple[float, ...]
    weights: tuple[float, ...]
    low: float = 0.0

    def integral(self, values: Tensor) -> Tensor:
        """Return the weighted sum of values at the nodes, which are the first dimension."""
        return torch.tensordot(values.new_tensor(self.weights), values, 1)


@cache
def nodes(quadrature: str, steps: int, floor: float = 0.1) -> Nodes:
    """Compute the positions and weights of a rule on [0, 1].

    ``geometric`` integrates over the logarithm of the position, from ``floor`` to 1.

    Examples:
        >>> nodes("riemann", 2)
        Nodes(positions=(0.5, 1.0), weights=(0.5, 0.5), low=0.0)

    Raises:
        BadOption: The rule is unknown, ``steps`` is below 1 (``late``: not 1; ``clenshaw_curtis``: below 2), or
            ``floor`` is not inside (0, 1).
    """
    if quadrature not in RULES:
        raise BadOption(f"quadrature must be one of {', '.join(RULES)} (got {quadrature!r})")
    if steps < 1:
        raise BadOption(f"steps must be at least 1 (got {steps})")
    if quadrature == "late":
        if steps > 1:
            raise BadOption(f"steps must be 1 with the quadrature late (got {steps}); use gauss with more steps")
        return Nodes((LATE,), (1.0,))
    if quadrature in ("riemann", "midpoint"):
        shift = 0.5 if quadrature == "midpoint" else 0.0
        return Nodes(tuple((i - shift) / steps for i in range(1, steps + 1)), (1 / steps,) * steps)
    if quadrature == "clenshaw_curtis":
        return _clenshaw_curtis(steps)
    roots, weights = np.polynomial.legendre.leggauss(steps)
    if quadrature == "gauss":
        return Nodes(tuple(map(float, (roots + 1) / 2)), tuple(map(float, weights / 2)))
    if not 0 < floor < 1:
        raise BadOption(f"floor must be above 0 and below 1 (got {floor})")
    positions = np.exp((roots - 1) / 2 * -math.log(floor))
    return Nodes(tuple(map(float, positions)), tuple(map(float, weights / 2 * -math.log(floor) * positions)), floor)


def refined(quadrature: str, steps: int, floor: float, more: bool) -> Iterator[Nodes]:
    """Yield the nodes of a rule and, with ``more``, of twice as many steps each time, up to ``MOST_STEPS``.

    ``clenshaw_curtis`` doubles the intervals between its nodes. Narrow peaks between them can spoil its sum, so
    ``midpoint`` follows, whose nodes are even.

    Examples:
        >>> [len(path.positions) for path in refined("gauss", 12, 0.1, True)]
        [12, 24, 48, 64]
        >>> [len(path.positions) for path in refined("clenshaw_curtis", 5, 0.1, True)]
        [5, 9, 17, 33, 65, 64]
    """
    yield nodes(quadrature, steps, floor)
    ends = int(quadrature == "clenshaw_curtis")
    while more and steps - ends < MOST_STEPS:
        steps = min(2 * (steps - ends), MOST_STEPS) + ends
        yield nodes(quadrature, steps, floor)
    if more and ends:  # narrow peaks between its nodes can spoil the sum; those of midpoint are even
        yield nodes("midpoint", MOST_STEPS)


def _clenshaw_curtis(steps: int) -> Nodes:
    """Return the nodes of the rule that integrates the polynomial through the extrema of a Chebyshev polynomial.

    Node k of n intervals is at (1 - cos(pi k / n)) / 2. Twice as many intervals give the same floating-point numbers
    for the nodes that both have.
    """
    if steps < 2:
        raise BadOption(f"steps must be at least 2 with the quadrature clenshaw_curtis (got {steps})")
    places = np.arange(steps) / (steps - 1)
    orders = np.arange(0, steps, 2)
    waves = np.cos(np.pi * np.outer(places, orders)) / (1 - orders**2)
    waves[:, (orders > 0) & (orders < steps - 1)] *= 2
    weights = waves.sum(1) / (steps - 1)
    weights[[0, -1]] /= 2
    return Nodes(tuple(map(float, (1 - np.cos(np.pi * places)) / 2)), tuple(map(float, weights)))


def chunks(count: int, like: Tensor, times: int = 1, at_once: int | None = None) -> Iterator[slice]:
    """Yield the slices of ``count`` states of a batch that go through a tower together.

    Args:
        count: The number of states of each example.
        like: One state of the batch.
        times: The batch-size multiplier when no graph is kept.
        at_once: The number of states, over all examples, that fit into memory; None estimates it from ``like``.

    Examples:
        >>> [(part.start, part.stop) for part in chunks(5, torch.zeros(16, 7, 8))]
        [(0, 2), (2, 4), (4, 5)]
    """
    room = BUDGET // max(1, like.numel()) if at_once is None else count
    most = min((at_once or AT_ONCE) // max(1, len(like)), room) * times
    for first in range(0, count, max(1, most)):
        last = min(first + max(1, most), count)
        yield slice(first, last)
        if (listener := LISTENER.get()) is not no_progress:
            listener(Progress(last, count))
