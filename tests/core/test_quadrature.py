"""Tests of ``nibt.core.quadrature``."""

import math
from collections.abc import Callable, Sequence
from typing import Any

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


def test_adaptive_starts_with_two_panels_of_booles_rule() -> None:
    """Boole's rule is exact for polynomials up to degree 5."""
    path = nodes("adaptive", 9)
    assert path.positions == tuple(node / 8 for node in range(9))
    for degree in range(6):
        total = sum(w * x**degree for x, w in zip(path.positions, path.weights, strict=True))
        assert total == pytest.approx(1 / (degree + 1), abs=1e-12)


@pytest.mark.parametrize(("steps", "expected"), [(12, [12, 24, 48, 64]), (32, [32, 64]), (64, [64]), (70, [70])])
def test_refined_doubles_the_steps_up_to_the_limit(steps: int, expected: list[int]) -> None:
    assert MOST_STEPS == 64, "docs/reference/methods/index.md states this limit"
    paths = list(refined("geometric", steps, 0.2))
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
        ("adaptive", 5, 0.1, r"steps must be 9 with the quadrature adaptive, which adds steps \(got 5\)"),
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
    values, steps = curves.integrate("adaptive", 9, 0.001)
    assert steps[0] == steps[2] == 9, "a line is exact"
    assert steps[1] > 9
    torch.testing.assert_close(values, curves.exact, rtol=0.002, atol=0)


def test_no_value_is_computed_twice() -> None:
    curves = Curves((line, line), (peak, line))
    _, steps = curves.integrate("adaptive", 9, 0.001)
    assert len(curves.computed) == len(set(curves.computed)) == int(steps.sum())


def test_rules_without_common_nodes_are_computed_anew() -> None:
    curves = Curves((peak, line))
    values, steps = curves.integrate("gauss", 4, 0.001)
    assert len(curves.computed) > int(steps)
    torch.testing.assert_close(values, curves.exact, rtol=0.002, atol=0)


def test_a_sum_that_is_right_by_chance_is_refined() -> None:
    """The errors of the parts cancel, so that the sum is complete with any number of nodes."""
    curves = Curves((peak, lambda at: 1 - peak(at)))
    values, steps = curves.integrate("adaptive", 9, 0.001)
    assert steps > 9
    torch.testing.assert_close(values, curves.exact, rtol=0.002, atol=0)


def test_vectors_are_compared_by_their_lengths() -> None:
    """A vector of a part that turns counts as changed, though its length is the same."""

    def values_at(positions: Sequence[float], rows: Rows) -> torch.Tensor:
        angle = torch.tensor(positions) * 12
        return torch.stack([angle.cos(), angle.sin()], -1)[:, None, None].expand(-1, len(rows), 1, -1)

    rows = torch.zeros(1, dtype=torch.int64)
    rule = PathRule("adaptive", 9, 0.1, 0.01)
    value, steps = integrate(rule, values_at, rows, lambda values, _: torch.zeros(len(values)))
    exact = torch.tensor([torch.tensor(12.0).sin() / 12, (1 - torch.tensor(12.0).cos()) / 12])
    assert steps > 9
    torch.testing.assert_close(value[0, 0], exact, atol=1e-3, rtol=0)


def test_refinement_ends_with_the_finest_rule() -> None:
    curves = Curves((lambda at: (at > 0.61).double(), line))
    _, steps = curves.integrate("gauss", 4, 1e-9)
    assert steps.tolist() == [64]


@pytest.mark.parametrize("place", [0.4921875, 0.49, 0.501])
def test_a_peak_between_the_nodes_is_found(place: float) -> None:
    """The first nodes miss it, so that only the sum says that something is missing."""
    curves = Curves((lambda at: 1 / (1e-5 + (at - place).square()), line), (line, line))
    values, steps = curves.integrate("adaptive", 9, 0.05)
    assert 9 < steps[0] <= 65
    assert steps[1] == 9
    torch.testing.assert_close(values, curves.exact, rtol=0.05, atol=0)


def test_items_have_the_values_that_they_have_alone() -> None:
    items = (peak, line), (line, line), (lambda at: peak(1 - at), line), (peak, peak)
    together, steps = Curves(*items).integrate("adaptive", 9, 0.001)
    for row, item in enumerate(items):
        alone, own_steps = Curves(item).integrate("adaptive", 9, 0.001)
        torch.testing.assert_close(together[row], alone[0], rtol=1e-12, atol=0)
        assert steps[row] == own_steps[0]


def test_a_step_ends_with_the_most_nodes() -> None:
    curves = Curves((lambda at: (at > 0.61).double(), line), (line, line))
    values, steps = curves.integrate("adaptive", 9, 1e-9)
    assert steps.tolist() == [65, 9]
    torch.testing.assert_close(values[0], curves.exact[0], rtol=0, atol=1e-4)
