"""Straight paths through a hidden layer, and quadrature rules for the mean gradient along them.

A path runs from a baseline state r (position 0) to the hidden state h (position 1). ``riemann``, n equal steps, is the
published rule (Zhu et al., ICLR 2025, eq. 12). ``gauss`` (Gauss-Legendre) converges geometrically where the score is
smooth along the path. ``geometric`` is for paths to zero, along which the score is smooth only in the logarithm of the
position. ``midpoint`` is the usual rule of integrated gradients (Sundararajan et al., 2017). ``late`` is a single node
at two thirds of the path, the Gauss rule for weights that grow with the position: scores tell places well, but do not
add up to the change of the target. ``clenshaw_curtis`` (Clenshaw and Curtis, 1960) converges nearly as fast as
``gauss``, and the nodes of n intervals are also nodes of 2 n, so that more steps keep all gradients.

The values at a node are computed once for each item: a finer rule keeps the nodes that it shares with the coarser one,
and items that are accurate enough take no part in it. Completeness says only that the *sum* of the scores is right,
which it may be by chance. So an integral is accurate if its sum is complete and the last refinement changed little: the
error of a smooth integrand is about squared if its nodes are doubled, so that a change by the square root of the
tolerance leaves an error of about the tolerance.

A rule of high order stalls where an integrand has a narrow peak. An item whose sum the finest rule leaves incomplete
therefore gets a last rule of another form, and keeps the result with the smaller gap.
"""

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cache

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from nibt.errors import BadOption
from nibt.types import PerExample

RULES = ("riemann", "gauss", "geometric", "midpoint", "late", "clenshaw_curtis")
LATE = 2 / 3  # the position of the node of ``late``

MOST_STEPS = 64
"""The largest number of steps that a tolerance leads to; intervals for ``clenshaw_curtis``, which has one node more."""


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
        BadOption: The rule is unknown, or has no such number of steps (``late``: not 1; ``clenshaw_curtis``: below 2).
    """
    if quadrature not in RULES:
        raise BadOption(f"quadrature must be one of {', '.join(RULES)} (got {quadrature!r})")
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


@dataclass(frozen=True)
class PathRule:
    """How a path is integrated: by a quadrature rule and, with a tolerance, by finer ones where it is inaccurate.

    Attributes:
        quadrature: The name of the rule.
        steps: The number of its steps.
        floor: The lower end of the path for the rule ``geometric``.
        tolerance: The largest allowed gap, relative to the change along the path; None does not limit it.
    """

    quadrature: str
    steps: int
    floor: float
    tolerance: float | None

    @property
    def nodes(self) -> Nodes:
        """The nodes of the rule with its own steps."""
        return nodes(self.quadrature, self.steps, self.floor)

    def refined(self) -> Iterator[Nodes]:
        """Yield the nodes of the rule; with a tolerance, then twice as many each time."""
        return refined(self.quadrature, self.steps, self.floor, self.tolerance is not None)


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


Rows = Int[Tensor, " row"]
"""The numbers of the items that are computed."""
ValuesAt = Callable[[Sequence[float], Rows], Float[Tensor, "node row part *dim"]]
"""Computes the integrand of some items at some positions: a score or a vector for each part."""
Gaps = Callable[[Float[Tensor, "row part *dim"], Rows], Float[Tensor, " row"]]
"""Returns how much the sum over the parts of each item lacks, in units of what its tolerance allows."""


def integrate(
    rule: PathRule, values_at: ValuesAt, rows: Rows, gaps: Gaps
) -> tuple[Float[Tensor, "row part *dim"], PerExample]:
    """Compute an integral for each item; with a tolerance, with finer rules for items that are not accurate enough.

    ``gaps`` is called with a tolerance only.
    """
    if rule.tolerance is None:
        path = rule.nodes
        values = values_at(path.positions, rows)
        return path.integral(values), values.new_full((len(rows),), len(path.positions), dtype=torch.float32)

    computed: dict[float, Tensor] = {}
    result = steps = before = None
    for path in rule.refined():
        second_try = len(path.positions) < len(computed)
        if second_try and before is not None:
            incomplete = gaps(before, rows) > 1
            if not incomplete.any():
                break

            rows = rows[incomplete]
            before = before[incomplete]

        new = [position for position in path.positions if position not in computed]
        computed.update(zip(new, values_at(new, rows), strict=True))
        computed = {position: computed[position] for position in path.positions}
        after = path.integral(torch.stack(list(computed.values())))
        if result is None or steps is None:
            result = after.clone()
            steps = after.new_zeros(len(rows), dtype=torch.float32)

        if second_try and before is not None:
            better = gaps(after, rows) < gaps(before, rows)
            rows = rows[better]
            after = after[better]

        result[rows], steps[rows] = after, float(len(computed))
        if second_try:
            break

        rough = (gaps(after, rows) > 1) | (before is None or _moved(before, after, rule.tolerance))
        if not rough.any():
            break

        rows = rows[rough]
        before = after[rough]
        computed = {position: values[rough] for position, values in computed.items()}

    assert result is not None
    assert steps is not None
    return result, steps


def _moved(before: Tensor, after: Tensor, tolerance: float) -> Bool[Tensor, " row"]:
    """Return for which items a part changed by more than the root of the tolerance, relative to the largest part."""
    # the error of a smooth integrand is about squared if its nodes are doubled
    change, size = (
        (values.abs() if values.ndim == 2 else values.norm(dim=-1)).amax(1) for values in (after - before, after)
    )
    return change > tolerance**0.5 * size
