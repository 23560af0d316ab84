"""Tests of ``nibt.core.quadrature``."""

import math

import pytest
import torch

from nibt.core.quadrature import mean_gradient, nodes
from nibt.errors import BadOption


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
        ("gauss", 0, 0.1, r"at least 1 \(got 0\)"),
        ("riemann", -3, 0.1, r"at least 1 \(got -3\)"),
        ("geometric", 4, 1.5, r"above 0 and below 1 \(got 1.5\)"),
    ],
)
def test_nodes_reject_bad_rules(quadrature: str, steps: int, floor: float, message: str) -> None:
    with pytest.raises(BadOption, match=message):
        nodes(quadrature, steps, floor)


@pytest.mark.parametrize("at_once", [1, 4, 100])
def test_mean_gradient_of_a_cubic_is_known(at_once: int) -> None:
    start, end = torch.randn(2, 2, 3, 4, generator=torch.Generator().manual_seed(0)).unbind()

    def score(states: torch.Tensor) -> torch.Tensor:
        return states.pow(3).sum((-2, -1))

    actual = mean_gradient(score, start, end, nodes("gauss", 3), at_once)
    by_hand = start.square() + start * end + end.square()  # the mean of 3 z^2 along the line
    torch.testing.assert_close(actual, by_hand)
