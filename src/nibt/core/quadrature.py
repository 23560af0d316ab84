"""Straight paths through a hidden layer, and quadrature rules for the mean gradient along them.

A path runs from a baseline state r (position 0) to the hidden state h (position 1). ``riemann``, n equal steps, is the
published rule (Zhu et al., ICLR 2025, eq. 12). ``gauss`` (Gauss-Legendre) converges geometrically where the score is
smooth along the path. ``geometric`` is for paths to zero, along which the score is smooth only in the logarithm of the
position. ``midpoint`` is the usual rule of integrated gradients (Sundararajan et al., 2017). ``late`` is a single node
at two thirds of the path, the Gauss rule for weights that grow with the position: scores tell places well, but do not
add up to the change of the target. ``adaptive``, the default with a tolerance, takes more steps only where the
integrand changes fast along the path, as it often does in decoders.

Completeness says only that the *sum* of the scores is right, which it may be by chance. So an integral is accurate if
its sum is complete and the estimated error of each score is small. ``adaptive`` divides the path into panels with five
equally spaced nodes. Boole's rule integrates a panel; its difference from Simpson's rule on the same nodes estimates
the error, as in adaptive quadrature (Davis and Rabinowitz, *Methods of Numerical Integration*, 1984). Each step halves
the panel with the largest error, and keeps its values.

With a tolerance, the other rules double their steps, and items that are accurate enough take no further part. A change
by the square root of the tolerance leaves an error of about the tolerance, since the error of a smooth integrand is
about squared if its nodes are doubled.
"""

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cache, cached_property

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from nibt.errors import BadOption
from nibt.types import PerExample

RULES = ("riemann", "gauss", "geometric", "midpoint", "late", "adaptive")
LATE = 2 / 3  # the position of the node of ``late``

MOST_STEPS = 64
"""The largest number of steps that a tolerance leads to; one more for ``adaptive``, whose panels share their ends."""
FIRST_STEPS = 9
"""The steps with which ``adaptive`` starts, in two panels."""
_NEW_NODES = (1 / 8, 3 / 8, 5 / 8, 7 / 8)
"""The nodes that the halves of a panel have and the panel lacks, as shares of the panel."""
_BOOLE = (7 / 90, 32 / 90, 12 / 90, 32 / 90, 7 / 90)
_SIMPSON = (1 / 12, 4 / 12, 2 / 12, 4 / 12, 1 / 12)
_SMALL_ERROR = 0.1  # of what the tolerance allows: a panel with less is split only if all have


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
        BadOption: The rule is unknown, or has no such number of steps (``late``: not 1; ``adaptive``: not 9).
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
    if quadrature == "adaptive":
        if steps != FIRST_STEPS:
            raise BadOption(f"steps must be {FIRST_STEPS} with the quadrature adaptive, which adds steps (got {steps})")

        # Boole's rule on both halves of the path, which share the node in the middle
        weights = (*_BOOLE[:4], 2 * _BOOLE[4], *_BOOLE[1:])
        return Nodes(tuple(node / 8 for node in range(FIRST_STEPS)), tuple(weight / 2 for weight in weights))

    roots, weights = np.polynomial.legendre.leggauss(steps)
    if quadrature == "gauss":
        return Nodes(tuple(map(float, (roots + 1) / 2)), tuple(map(float, weights / 2)))

    # geometric: the integral over the position p is that of p over its logarithm, from log(floor) to 0
    length = -math.log(floor)
    positions = np.exp((roots - 1) / 2 * length)
    weights = weights / 2 * length * positions
    return Nodes(tuple(map(float, positions)), tuple(map(float, weights)), floor)


def refined(quadrature: str, steps: int, floor: float) -> Iterator[Nodes]:
    """Yield the nodes of a rule and of twice as many steps each time, up to ``MOST_STEPS``.

    Examples:
        >>> [len(path.positions) for path in refined("gauss", 12, 0.1)]
        [12, 24, 48, 64]
    """
    yield nodes(quadrature, steps, floor)
    while steps < MOST_STEPS:
        steps = min(2 * steps, MOST_STEPS)
        yield nodes(quadrature, steps, floor)


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


Rows = Int[Tensor, " row"]
"""The numbers of the items that are computed."""
ValuesAt = Callable[[Sequence[float], Rows], Float[Tensor, "node row part *dim"]]
"""Computes the integrand of some items at some positions: a score or a vector for each part."""
Parts = Float[Tensor, "part *dim"]
"""A score or a vector for each part, of one item."""
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

    if rule.quadrature == "adaptive":
        return _adaptive(rule.tolerance, values_at, rows, gaps)
    return _with_doubled_steps(rule, rule.tolerance, values_at, rows, gaps)


@dataclass(frozen=True)
class _Panel:
    """A part of the path of one item, with the values at five equally spaced positions."""

    start: float
    end: float
    values: Float[Tensor, "node part *dim"]

    @cached_property
    def integral(self) -> Parts:
        """The integral over the panel, by Boole's rule."""
        return self._sum(_BOOLE)

    @cached_property
    def errors(self) -> Float[Tensor, " part"]:
        """The estimated error of each part of the integral: the difference from Simpson's rule."""
        return _sizes(self.integral - self._sum(_SIMPSON))

    @cached_property
    def error(self) -> float:
        """The largest estimated error."""
        return float(self.errors.max())

    def _sum(self, weights: Sequence[float]) -> Parts:
        return (self.end - self.start) * torch.tensordot(self.values.new_tensor(weights), self.values, 1)

    def new_positions(self) -> list[float]:
        """Return the positions that the halves of the panel add."""
        return [self.start + share * (self.end - self.start) for share in _NEW_NODES]

    def halves(self, added: Float[Tensor, "node part *dim"]) -> "list[_Panel]":
        """Return the halves of the panel, with the values at the new positions."""
        old = self.values
        middle = (self.start + self.end) / 2
        first = torch.stack([old[0], added[0], old[1], added[1], old[2]])
        second = torch.stack([old[2], added[2], old[3], added[3], old[4]])
        return [_Panel(self.start, middle, first), _Panel(middle, self.end, second)]


def _adaptive(
    tolerance: float, values_at: ValuesAt, rows: Rows, gaps: Gaps
) -> tuple[Float[Tensor, "row part *dim"], PerExample]:
    """Compute an integral for each item from panels that are halved until it is accurate."""
    values = values_at(nodes("adaptive", FIRST_STEPS).positions, rows)
    middle = FIRST_STEPS // 2
    panels = [
        [_Panel(0.0, 0.5, values[: middle + 1, item]), _Panel(0.5, 1.0, values[middle:, item])]
        for item in range(len(rows))
    ]

    active = list(range(len(rows)))
    while active:
        totals = torch.stack([_total(panels[item]) for item in active])
        incomplete = gaps(totals, rows[active]) > 1
        halved: dict[tuple[float, float], list[tuple[int, _Panel]]] = {}
        for item, total, is_incomplete in zip(active, totals, incomplete.tolist(), strict=True):
            panel = _next_panel(panels[item], total, is_incomplete, tolerance)
            if panel is not None:
                halved.setdefault((panel.start, panel.end), []).append((item, panel))

        # items that need the same positions go through the tower together
        for same in halved.values():
            items = [item for item, _ in same]
            added = values_at(same[0][1].new_positions(), rows[items])
            for column, (item, panel) in enumerate(same):
                others = [other for other in panels[item] if other is not panel]
                panels[item] = [*others, *panel.halves(added[:, column])]

        active = sorted(item for same in halved.values() for item, _ in same)

    steps = [float(4 * len(of_item) + 1) for of_item in panels]  # panels share their ends
    return torch.stack([_total(of_item) for of_item in panels]), values.new_tensor(steps, dtype=torch.float32)


def _total(panels: Sequence[_Panel]) -> Parts:
    return torch.stack([panel.integral for panel in panels]).sum(0)


def _next_panel(panels: Sequence[_Panel], total: Parts, is_incomplete: bool, tolerance: float) -> _Panel | None:
    """Return the panel of an item that is halved next; None if its integral is accurate, or has all steps.

    It is accurate if its sum is complete, and the estimated error of each part is at most half of the tolerance,
    relative to the largest part.
    """
    if 4 * len(panels) >= MOST_STEPS:
        return None

    limit = tolerance / 2 * float(_sizes(total).max())
    errors = torch.stack([panel.errors for panel in panels]).sum(0)
    if not is_incomplete and float(errors.max()) <= limit:
        return None

    worst = max(panels, key=lambda panel: panel.error)
    if worst.error >= _SMALL_ERROR * limit:
        return worst
    return max(panels, key=lambda panel: panel.end - panel.start)  # a narrow peak is between the nodes


def _with_doubled_steps(
    rule: PathRule, tolerance: float, values_at: ValuesAt, rows: Rows, gaps: Gaps
) -> tuple[Float[Tensor, "row part *dim"], PerExample]:
    """Compute an integral for each item by a rule whose steps are doubled until it is accurate."""
    computed: dict[float, Tensor] = {}
    result = None
    steps = None
    before = None
    for path in refined(rule.quadrature, rule.steps, rule.floor):
        new = [position for position in path.positions if position not in computed]
        computed.update(zip(new, values_at(new, rows), strict=True))
        computed = {position: computed[position] for position in path.positions}  # a finer Gauss rule has other nodes
        after = path.integral(torch.stack(list(computed.values())))
        if result is None or steps is None:
            result = after.clone()
            steps = after.new_zeros(len(rows), dtype=torch.float32)

        result[rows] = after
        steps[rows] = float(len(computed))

        # completeness may be met by chance, so the scores must have settled, too, which one rule alone cannot show
        rough = (gaps(after, rows) > 1) | (before is None or _moved(before, after, tolerance))
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
    change = torch.stack([_sizes(item).max() for item in after - before])
    size = torch.stack([_sizes(item).max() for item in after])
    return change > tolerance**0.5 * size


def _sizes(values: Parts) -> Float[Tensor, " part"]:
    """Return the absolute value of each score, or the length of each vector."""
    return values.abs() if values.ndim == 1 else values.norm(dim=-1)
