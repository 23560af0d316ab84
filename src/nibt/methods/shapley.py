r"""Shapley values of the units by kernel SHAP (Lundberg and Lee, NeurIPS 2017, arXiv 1705.07874).

The game (Shapley, 1953) is the score of the input with only the units of a coalition kept. The values are the additive
game with the sum S(all) - S(none) that is nearest to it by least squares, where coalitions of $s$ of $n$ units have the
weight

$$w_s = \frac{n - 1}{\binom{n}{s} \, s \, (n - s)}$$

They are exact if the budget covers all coalitions; otherwise it is spent on pairs of a coalition and its complement
(Covert and Lee, AISTATS 2021, arXiv 2012.01536).

Answers:
    What each part contributes on average over all orders in which parts are added.

Use it when:
    You want scores that add up and that units with the same evidence share, or exact values for a caption of up to
    nine words.

Avoid it when:
    There are fewer than four coalitions per unit: the estimates are noisy.
"""

from dataclasses import dataclass
from functools import lru_cache
from math import comb

import numpy as np

from nibt.core.perturbation import generator
from nibt.methods._coalitions import CoalitionMethod, Coalitions, Values, Weights, subsets


@dataclass(frozen=True)
class Shapley(CoalitionMethod):
    """Shapley values by weighted least squares.

    Args:
        budget: The number of coalitions, besides the full and the empty one.
    """

    paper = "Lundberg and Lee, NeurIPS 2017, arXiv 1705.07874"
    cost = "3 + budget"

    def coalitions(self, players: int) -> tuple[Coalitions, Weights]:
        coalitions, weights = _coalitions(players, self.budget, self.seed)
        empty = np.zeros((1, players), bool)  # its score is kept exactly: an infinite weight
        return np.concatenate([coalitions, empty]), np.append(weights, np.inf)

    def fit(self, coalitions: Coalitions, weights: Weights, values: Values, full: np.ndarray | float) -> np.ndarray:
        empty = values[-1]
        return _regression(coalitions[:-1].astype(np.float64), weights[:-1], values[:-1] - empty, full - empty)


@lru_cache(maxsize=64)
def _coalitions(players: int, budget: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Return coalitions, neither empty nor full, and their weights; all coalitions if the budget allows."""
    if 2**players - 2 <= budget:
        coalitions = subsets(players)[1:-1]
        sizes = coalitions.sum(1)
        return coalitions, np.array([1 / (comb(players, size) * size * (players - size)) for size in sizes])
    draws, sizes = generator(seed), np.arange(1, players)
    chances = 1 / (sizes * (players - sizes))
    drawn = draws.choice(sizes, size=budget // 2, p=chances / chances.sum())
    coalitions = draws.random((budget // 2, players)).argsort(1) < drawn[:, None]
    return np.concatenate([coalitions, ~coalitions]), np.ones(2 * len(coalitions))


def _regression(coalitions: np.ndarray, weights: Weights, gains: Values, total: np.ndarray | float) -> np.ndarray:
    """Fit the additive game with the sum ``total`` to the gains by least squares with a Lagrange multiplier."""
    if coalitions.shape[1] == 1:
        return np.asarray(total)[None]
    inverse = np.linalg.pinv(coalitions.T @ (weights[:, None] * coalitions), hermitian=True)
    free, sums = inverse @ (coalitions.T @ (weights * gains.T).T), inverse.sum(1)
    return free - np.multiply.outer(sums, free.sum(0) - total) / sums.sum()
