"""Tests of ``nibt.core.quadrature``."""

import itertools
import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pytest
import torch

from nibt.core.quadrature import MOST_STEPS, PathRule, Rows, integrate, nodes, refined
from nibt.core.side import AT_ONCE, BUDGET, chunks
from nibt.errors import BadOption
from nibt.progress import Progress, listening


@pytest.mark.parametrize("steps", [1, 2, 4, 7])
def test_gauss_is_exact_for_polynomials(steps: int) -> None:
    path = nodes("gauss", steps)
    for degree in range(2 * steps):
        total = sum(w * x**degree for x, w in zip(path.positions, path.weights, strict=True))
        assert total == pytest.approx(1 / (degree + 1), abs=1e-12)


def test_riemann_ends_at_the_input() -> None:
    path = nodes("riemann", 10)
    assert path.positions[-1] == 1
    assert path.positions[0] == pytest.approx(0.1)
    assert sum(path.weights) == pytest.approx(1)


@pytest.mark.parametrize("steps", [1, 2, 5])
def test_riemann_and_midpoint_take_equal_steps(steps: int) -> None:
    for quadrature, share in (("riemann", 1.0), ("midpoint", 0.5)):
        path = nodes(quadrature, steps)
        assert path.positions == pytest.approx([(step + share) / steps for step in range(steps)])
        assert path.weights == pytest.approx([1 / steps] * steps)
        assert path.low == 0


def test_nodes_other_than_geometric_ignore_the_floor() -> None:
    for quadrature in ("riemann", "midpoint", "gauss"):
        assert nodes(quadrature, 3, 7.0) == nodes(quadrature, 3)
    assert nodes("geometric", 3) == nodes("geometric", 3, 0.1)


@pytest.mark.parametrize("steps", [2, 3, 4, 5, 9, 12, 65])
def test_clenshaw_curtis_integrates_the_interpolating_polynomial(steps: int) -> None:
    path = nodes("clenshaw_curtis", steps)
    assert (path.positions[0], path.positions[-1]) == (0, 1)
    values = np.random.default_rng(steps).normal(size=steps)
    fitted = np.polynomial.Chebyshev.fit(path.positions, values, steps - 1, domain=[0, 1]).integ()
    assert np.dot(path.weights, values) == pytest.approx(fitted(1) - fitted(0), abs=1e-10)
    assert min(path.weights) > 0


def test_clenshaw_curtis_keeps_its_nodes() -> None:
    paths = list(refined("clenshaw_curtis", 5, 0.1, True))
    assert [len(path.positions) for path in paths] == [5, 9, 17, 33, 65, 64]
    assert paths.pop() == nodes("midpoint", 64)
    for fewer, more in itertools.pairwise(paths):
        assert set(fewer.positions) < set(more.positions)


@pytest.mark.parametrize(
    ("steps", "more", "expected"),
    [(12, True, [12, 24, 48, 64]), (32, True, [32, 64]), (64, True, [64]), (70, True, [70]), (5, False, [5])],
)
def test_refined_doubles_the_steps_up_to_the_limit(steps: int, more: bool, expected: list[int]) -> None:
    assert MOST_STEPS == 64, "docs/reference/methods/index.md states this limit"
    paths = list(refined("geometric", steps, 0.2, more))
    assert [len(path.positions) for path in paths] == expected
    assert paths == [nodes("geometric", count, 0.2) for count in expected]


@pytest.mark.parametrize(
    ("count", "shape", "options", "sizes"),
    [
        (7, (2, 5, 3), {"at_once": 6}, [3, 3, 1]),
        (6, (2, 5, 3), {"at_once": 6}, [3, 3]),
        (7, (2, 5, 3), {"at_once": 6, "times": 2}, [6, 1]),
        (4, (9, 5, 3), {"at_once": 6}, [1, 1, 1, 1]),  # at least one state of each example
        (3, (2, BUDGET // 4, 1), {}, [2, 1]),  # two such batches are as large as the budget
        (3, (2, BUDGET // 4, 1), {"at_once": 6}, [3]),  # a memory is no budget of values
        (9, (2, BUDGET // 4, 1), {"times": 4}, [8, 1]),
        (AT_ONCE + 1, (1, 5, 3), {}, [AT_ONCE, 1]),
        (2, (0, 5, 3), {}, [2]),
        (0, (2, 5, 3), {}, []),
    ],
)
def test_chunks_hold_as_many_states_as_allowed(
    count: int, shape: tuple[int, ...], options: dict[str, Any], sizes: list[int]
) -> None:
    reports: list[Progress] = []
    with listening(reports.append):
        parts = list(chunks(count, torch.empty(shape), **options))
    assert [part.stop - part.start for part in parts] == sizes
    assert [place for part in parts for place in range(count)[part]] == list(range(count)), "every state, in order"
    assert [(progress.done, progress.total) for progress in reports] == [(part.stop, count) for part in parts]


def test_geometric_is_gauss_in_the_logarithm() -> None:
    path = nodes("geometric", 6, floor=0.01)
    # of 1/x from 0.01 to 1: constant in the logarithm, hence exact
    assert sum(w / x for x, w in zip(path.positions, path.weights, strict=True)) == pytest.approx(math.log(100))
    # of 1 from 0.01 to 1
    assert sum(nodes("geometric", 20, floor=0.01).weights) == pytest.approx(0.99, abs=1e-9)
    assert path.low == 0.01


@pytest.mark.parametrize(
    ("quadrature", "steps", "floor", "message"),
    [
        ("simpson", 4, 0.1, "riemann, gauss, geometric"),
        ("clenshaw_curtis", 1, 0.1, r"at least 2 with the quadrature clenshaw_curtis \(got 1\)"),
        ("late", 2, 0.1, r"steps must be 1 with the quadrature late \(got 2\)"),
    ],
)
def test_nodes_reject_bad_rules(quadrature: str, steps: int, floor: float, message: str) -> None:
    with pytest.raises(BadOption, match=message):
        nodes(quadrature, steps, floor)


def test_late_is_exact_for_lines_with_growing_weights() -> None:
    """The Gauss rule of one node for the weight 2 l on [0, 1]: the integral of 2 l (a + b l) is a + b 2 / 3."""
    path = nodes("late", 1)
    assert path.weights == (1.0,)
    assert path.positions == pytest.approx((2 / 3,))


Curve = Callable[[torch.Tensor], torch.Tensor]


class Curves:
    """Integrands of some items, each a score for two parts as a function of the position; records what is computed."""

    def __init__(self, *items: tuple[Curve, Curve]) -> None:
        self.items = items
        self.computed: list[tuple[float, int]] = []
        fine = torch.linspace(0, 1, 200_001, dtype=torch.float64)
        self.exact = torch.stack([torch.stack([torch.trapezoid(part(fine), fine) for part in item]) for item in items])

    def __call__(self, positions: Sequence[float], rows: Rows) -> torch.Tensor:
        self.computed += [(position, row) for position in positions for row in rows.tolist()]
        at = torch.tensor(positions, dtype=torch.float64)
        items = [torch.stack([part(at) for part in self.items[row]], -1) for row in rows.tolist()]
        return torch.stack(items, 1)

    def gaps(self, tolerance: float) -> Callable[[torch.Tensor, Rows], torch.Tensor]:
        changes = self.exact.sum(1)
        return lambda values, rows: (values.sum(1) - changes[rows]).abs() / (tolerance * changes[rows].abs())

    def integrate(self, rule: str, steps: int, tolerance: float | None) -> tuple[torch.Tensor, torch.Tensor]:
        rows = torch.arange(len(self.items))
        return integrate(PathRule(rule, steps, 0.1, tolerance), self, rows, self.gaps(tolerance or 1.0))


def line(at: torch.Tensor) -> torch.Tensor:
    return 1 + at


def peak(at: torch.Tensor) -> torch.Tensor:
    return 1 / (0.003 + (at - 0.3).square())


def test_one_rule_is_its_weighted_sum() -> None:
    curves = Curves((line, peak), (peak, line))
    values, steps = curves.integrate("gauss", 3, None)
    path = nodes("gauss", 3)
    torch.testing.assert_close(values, path.integral(curves(path.positions, torch.arange(2))))
    assert steps.tolist() == [3, 3]


def test_each_item_has_the_nodes_that_it_needs() -> None:
    curves = Curves((line, line), (peak, line), (line, line))
    values, steps = curves.integrate("clenshaw_curtis", 3, 0.001)
    assert steps[0] == steps[2] == 5, "one refinement shows that a line is exact"
    assert steps[1] > 9
    torch.testing.assert_close(values, curves.exact, rtol=0.002, atol=0)


def test_no_value_is_computed_twice() -> None:
    curves = Curves((line, line), (peak, line))
    _, steps = curves.integrate("clenshaw_curtis", 3, 0.001)
    assert len(curves.computed) == len(set(curves.computed)) == int(steps.sum())


def test_rules_without_common_nodes_are_computed_anew() -> None:
    curves = Curves((peak, line))
    values, steps = curves.integrate("gauss", 4, 0.001)
    assert len(curves.computed) > int(steps)
    torch.testing.assert_close(values, curves.exact, rtol=0.002, atol=0)


def test_a_sum_that_is_right_by_chance_is_refined() -> None:
    """The errors of the parts cancel, so that the sum is complete with any number of nodes."""
    curves = Curves((peak, lambda at: 1 - peak(at)))
    values, steps = curves.integrate("clenshaw_curtis", 3, 0.001)
    assert steps > 9
    torch.testing.assert_close(values, curves.exact, rtol=0.002, atol=0)


def test_vectors_are_compared_by_their_lengths() -> None:
    """A vector of a part that turns counts as changed, though its length is the same."""

    def values_at(positions: Sequence[float], rows: Rows) -> torch.Tensor:
        angle = torch.tensor(positions) * 12
        return torch.stack([angle.cos(), angle.sin()], -1)[:, None, None].expand(-1, len(rows), 1, -1)

    rows = torch.zeros(1, dtype=torch.int64)
    rule = PathRule("clenshaw_curtis", 3, 0.1, 0.01)
    value, steps = integrate(rule, values_at, rows, lambda values, _: torch.zeros(len(values)))
    exact = torch.tensor([torch.tensor(12.0).sin() / 12, (1 - torch.tensor(12.0).cos()) / 12])
    assert steps > 9
    torch.testing.assert_close(value[0, 0], exact, atol=1e-3, rtol=0)


def test_refinement_ends_with_the_finest_rule() -> None:
    curves = Curves((lambda at: (at > 0.61).double(), line))
    _, steps = curves.integrate("gauss", 4, 1e-9)
    assert steps.tolist() == [64]


def test_a_peak_that_stalls_clenshaw_curtis_is_left_to_midpoints() -> None:
    """Each item keeps the rule with the smaller gap, and its number of steps says which."""
    narrow = [lambda at, place=place: 1 / (1e-5 + (at - place).square()) for place in (0.4921875, 0.49)]
    curves = Curves((narrow[0], line), (line, line), (narrow[1], line))
    values, steps = curves.integrate("clenshaw_curtis", 5, 0.01)
    assert steps.tolist() == [65, 9, 64]
    for row in (0, 2):
        finest = [nodes("clenshaw_curtis", 65), nodes("midpoint", 64)]
        results = [path.integral(curves(path.positions, torch.tensor([row])))[0] for path in finest]
        best = min(results, key=lambda result, row=row: float((result - curves.exact[row]).sum().abs()))
        torch.testing.assert_close(values[row], best)
