r"""Banzhaf values of the units: their mean effect if all other units are kept independently of each other.

$$\text{score}_u = E[S(\text{with } u)] - E[S(\text{without } u)]$$

Each other unit is in the coalition with the probability ``share`` (1/2 in Banzhaf, 1965; Wang and Jia, AISTATS 2023,
arXiv 2205.15466). The expectations are estimated by least squares of the score on the units that are kept (Hammer and
Holzman, 1992). They are exact if the budget covers all coalitions.

Answers:
    By how much this patch, or this word, raises the score on average, if a random part of the rest is visible.

Use it when:
    You want tables or maps from forward passes alone, on any trunk, in half precision or without gradients: the passes
    for one caption serve all others.

Avoid it when:
    The scores must add up (use ``shapley``), or there are fewer than two coalitions per unit: the estimates are noisy.
"""

from dataclasses import dataclass
from typing import Annotated

import numpy as np

from nibt.methods._coalitions import (
    CoalitionMethod,
    Coalitions,
    Values,
    Weights,
    drawn_coalitions,
    least_squares,
)
from nibt.options import Either, NotNegative, OpenShare


@dataclass(frozen=True)
class Banzhaf(CoalitionMethod):
    """Banzhaf values by least squares, or as differences of means.

    Args:
        share: The probability that a unit is kept.
        estimate: ``least_squares``, or ``means`` for the mean score with the unit minus that without it.
        ridge: For least squares, the weight of the sum of squares of the values, in coalitions. It makes values of few
            coalitions less noisy and smaller.
    """

    paper = "Wang and Jia, AISTATS 2023, arXiv 2205.15466"
    cost = "1 + budget"

    share: OpenShare = 0.5
    estimate: Annotated[str, Either(("least_squares", "means"))] = "least_squares"
    ridge: NotNegative = 0.0

    def coalitions(self, players: int) -> tuple[Coalitions, Weights]:
        return drawn_coalitions(players, self.budget, self.share, self.seed)

    def fit(self, coalitions: Coalitions, weights: Weights, values: Values, full: np.ndarray | float) -> np.ndarray:
        if self.estimate == "means":
            return _differences(coalitions, weights, values)
        return least_squares(coalitions.astype(np.float64), weights, values, self.ridge)


def _differences(coalitions: Coalitions, weights: Weights, values: Values) -> np.ndarray:
    """Return the mean value with each player minus that without it; 0 if no coalition, or each, has the player."""
    flat = values.reshape(len(values), -1)
    inside, outside = weights[:, None] * coalitions, weights[:, None] * ~coalitions
    with_player, without = inside.sum(0), outside.sum(0)
    both = (with_player > 0) & (without > 0)
    means = [
        mask.T @ flat / np.where(both, total, 1)[:, None] for mask, total in ((inside, with_player), (outside, without))
    ]
    return ((means[0] - means[1]) * both[:, None]).reshape(coalitions.shape[1], *values.shape[1:])
