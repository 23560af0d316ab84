"""Tests of ``nibt.core.refinement``."""

from collections.abc import Callable, Sequence

import torch

from nibt.core.quadrature import nodes, refined
from nibt.core.refinement import Rows, integrate

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
        paths = refined(rule, steps, 0.1, tolerance is not None)
        rows = torch.arange(len(self.items))
        return integrate(paths, self, rows, self.gaps(tolerance or 1.0), tolerance)


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
    paths = refined("clenshaw_curtis", 3, 0.1, True)
    value, steps = integrate(paths, values_at, rows, lambda values, _: torch.zeros(len(values)), 0.01)
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
