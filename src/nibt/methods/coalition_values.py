"""Methods that evaluate the input with random coalitions of its units, and fit an additive model to the scores.

Values of units as players of a game are estimated from coalitions: Banzhaf and Shapley values.
"""

from abc import abstractmethod
from dataclasses import dataclass
from functools import lru_cache
from math import comb
from typing import Annotated, ClassVar

import numpy as np
import torch
from jaxtyping import Bool, Float

from nibt.core.perturbation import generator, masker
from nibt.core.side import Side
from nibt.data.units import Segments, Units
from nibt.methods._units import SegmentMethod, coalition_masks, share_equally
from nibt.methods.base import both_sides
from nibt.options import Either, NotNegative, OpenShare, Range, Seed
from nibt.types import UnitValues

RCOND = 1e-10  # smaller shares of the largest eigenvalue count as zero
Coalitions = Bool[np.ndarray, "coalition player"]
Weights = Float[np.ndarray, " coalition"]
Values = Float[np.ndarray, "coalition *value"]


@dataclass(frozen=True)
class CoalitionMethod(SegmentMethod):
    """Base class of methods with coalitions. The players are patches or segments of an image, and words of a caption.

    Args:
        budget: The number of coalitions.
        seed: The seed of the coalitions.
    """

    category = "perturbation"
    linear = True
    variants: ClassVar = both_sides(default={}, paper={})

    budget: Annotated[int, Range(2, 100_000)] = 512
    seed: Seed = 0

    @abstractmethod
    def coalitions(self, players: int) -> tuple[Coalitions, Weights]:
        """Return the coalitions of so many players, the same for every item, and their weights."""

    @abstractmethod
    def fit(self, coalitions: Coalitions, weights: Weights, values: Values, full: np.ndarray | float) -> np.ndarray:
        """Fit the effect of each player, (player, *value); ``full`` is the value of the input with all players."""

    def scores(self, side: Side, units: Units | Segments) -> UnitValues:
        device, players = side.tower.example.device, self.players(units, len(side.inputs))
        games = [self.coalitions(len(item_players)) for item_players in players]
        keep = coalition_masks([coalitions for coalitions, _ in games], players, units.count)
        values = masker(side, units)(keep.to(device)).cpu().double().numpy()
        full_scores = side.value().cpu().double().numpy()
        scores = []
        for item, (item_players, (coalitions, weights)) in enumerate(zip(players, games, strict=True)):
            result = self.fit(coalitions, weights, values[: len(coalitions), item], full_scores[item, ...])
            scores.append(share_equally(torch.from_numpy(result).float(), item_players, units.count))
        return torch.stack(scores).to(device)


def subsets(count: int) -> Coalitions:
    """Return all coalitions of ``count`` players: the empty one first, the full one last."""
    return (np.arange(2**count)[:, None] >> np.arange(count) & 1).astype(bool)


def drawn_coalitions(players: int, budget: int, share: float, seed: int) -> tuple[Coalitions, Weights]:
    """Return coalitions that keep each player with the probability ``share``, or all that there are, with weights."""
    if 2**players <= budget:
        coalitions = subsets(players)
        sizes = coalitions.sum(1)
        return coalitions, share**sizes * (1 - share) ** (players - sizes)
    if share == 0.5:
        half = generator(seed).random((budget // 2, players)) < share
        coalitions = np.concatenate([half, ~half])
    else:
        coalitions = generator(seed).random((budget, players)) < share
    return coalitions, np.full(len(coalitions), 1 / len(coalitions))


def centered_monomials(coalitions: Coalitions, share: float) -> np.ndarray:
    """Return the uncorrelated features of a model of order two: each player, and each pair of players."""
    first = coalitions - share
    left, right = np.triu_indices(coalitions.shape[1], 1)
    return np.concatenate([first, first[:, left] * first[:, right]], 1)


def least_squares(features: np.ndarray, weights: Weights, values: Values, ridge: float = 0.0) -> np.ndarray:
    """Return the coefficients of weighted least squares with a free intercept, which is left out."""
    root = np.sqrt(weights / weights.sum())[:, None]
    flat = values.reshape(len(values), -1)
    design = root * (features - (weights @ features) / weights.sum())
    outcomes = root * (flat - (weights @ flat) / weights.sum())
    penalty = ridge / len(features)
    if len(design) >= design.shape[1]:
        inverse = np.linalg.pinv(design.T @ design + penalty * np.eye(design.shape[1]), rcond=RCOND, hermitian=True)
        result = inverse @ (design.T @ outcomes)
    else:
        inverse = np.linalg.pinv(design @ design.T + penalty * np.eye(len(design)), rcond=RCOND, hermitian=True)
        result = design.T @ (inverse @ outcomes)
    return result.reshape(design.shape[1], *values.shape[1:])


@dataclass(frozen=True)
class Banzhaf(CoalitionMethod, name="banzhaf"):
    r"""Banzhaf values: the mean effect of each unit if every other unit is kept or removed at random.

    $$\text{score}_u = E[S(\text{with } u)] - E[S(\text{without } u)]$$

    A *coalition* is a set of units that are kept; the others are removed. The expectation $E$ is over coalitions that
    keep each other unit with the probability ``share`` (1/2 in Banzhaf, 1965; Wang and Jia, AISTATS 2023, arXiv
    2205.15466). It is estimated by a linear regression (least squares) of the target on the units that are kept (Hammer
    and Holzman, 1992). It is exact if the budget covers all coalitions.

    Shows:
        By how much this patch, or this word, raises the target on average, if a random part of the others is kept.

    Use it when:
        You want tables or maps without gradients, for any network, also in half precision. The forward passes of an
        image are used for all of its captions.

    Avoid it when:
        The scores must add up (use ``shapley``), or the budget is below two coalitions per unit: then the estimates are
        noisy.

    Args:
        share: The probability that a unit is kept.
        estimate: ``least_squares``, or ``means`` for the mean score with the unit minus that without it.
        ridge: For least squares, the weight of the penalty on squared scores (ridge regression), in numbers of
            coalitions. It makes scores from few coalitions less noisy, and smaller.
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


@dataclass(frozen=True)
class Shapley(CoalitionMethod, name="shapley"):
    r"""Shapley values of the units by kernel SHAP (Lundberg and Lee, NeurIPS 2017, arXiv 1705.07874).

    A *coalition* is a set of units that are kept; the others are removed (the game of Shapley, 1953). The scores add up
    to S(all) - S(none), the target with all units minus that with none. Among all such scores, they are those whose
    sums predict the targets of coalitions best (least squares), where coalitions of $s$ of $n$ units have the weight

    $$w_s = \frac{n - 1}{\binom{n}{s} \, s \, (n - s)}$$

    They are exact if the budget covers all coalitions; otherwise, it is spent on pairs of a coalition and its
    complement (Covert and Lee, AISTATS 2021, arXiv 2012.01536).

    Shows:
        What each unit adds to the target, on average over all orders in which units can be added.

    Use it when:
        You want scores that add up, with equal scores for units with the same evidence, or exact scores for a caption
        of up to nine words.

    Avoid it when:
        The budget is below four coalitions per unit: then the estimates are noisy.

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
