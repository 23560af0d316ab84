"""Methods that evaluate the input with random coalitions of its units, and fit an additive model to the scores."""

from abc import abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import ceil
from typing import Annotated, ClassVar

import numpy as np
import torch
from jaxtyping import Bool, Float, Int

from nibt.core.perturbation import generator, masker
from nibt.core.side import Side
from nibt.data.units import Segments, Units
from nibt.methods._errors import (
    FEWEST,
    LEVEL,
    Estimates,
    Regression,
    StoppingRule,
    check_limit,
    check_no_limit,
    rounds,
    share_of_error,
)
from nibt.methods._unit_vectors import UnitVectors
from nibt.methods._units import SegmentMethod, coalition_masks, share_equally
from nibt.methods.base import both_sides
from nibt.options import OpenShare, Range, Seed
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
        error: The size of the error at which no more coalitions are drawn: the largest half-width of the 95 % interval
            of a score, as a share of the largest absolute score. None evaluates all coalitions of the budget. If the
            budget covers all coalitions that there are, all are evaluated, and the error is 0.
    """

    category = "perturbation"
    linear = True
    variants: ClassVar = both_sides(default={}, paper={})

    budget: Annotated[int, Range(2, 100_000)] = 512
    seed: Seed = 0
    error: StoppingRule = None

    def __post_init__(self) -> None:
        super().__post_init__()
        check_limit(self.error, self.views, self.amounts)

    @abstractmethod
    def coalitions(self, players: int) -> tuple[Coalitions, Weights]:
        """Return the coalitions of so many players, the same for every item, and their weights."""

    @abstractmethod
    def fit(self, coalitions: Coalitions, weights: Weights, values: Values, full: np.ndarray | float) -> np.ndarray:
        """Fit the effect of each player, (player, *value); ``full`` is the value of the input with all players."""

    @abstractmethod
    def are_all(self, players: int) -> bool:
        """Return whether the coalitions are all that there are, so that the effects are exact."""

    @abstractmethod
    def regression(self, coalitions: Coalitions, values: Values, full: np.ndarray | float) -> Regression:
        """Return the independent draws behind a fit, for its error."""

    @property
    def in_pairs(self) -> bool:
        """Whether the second half of the drawn coalitions has the complements of the first."""
        return True

    def half_widths(
        self,
        coalitions: Coalitions,
        values: Values,
        full: np.ndarray | float,
        effects: np.ndarray,
        level: float = LEVEL,
    ) -> np.ndarray:
        """Return the half-widths of the intervals of fitted effects, (player, *value)."""
        if self.are_all(coalitions.shape[1]):
            return np.zeros_like(effects)
        return self.regression(coalitions, values, full).error(effects, level)

    def linear_vectors(self, side: Side) -> UnitVectors:
        check_no_limit(self.error)
        return super().linear_vectors(side)

    def scores(self, side: Side, units: Units | Segments) -> UnitValues:
        return self.estimates(side, units).scores

    def estimates(self, side: Side, units: Units | Segments) -> Estimates:
        players = self.players(units, len(side.inputs))
        if self.error is None:
            evaluated = self._evaluated(side, units, players)
        else:
            # each item alone, so that the coalitions of one do not depend on when others are done
            evaluated = [
                self._until_reached(side, units, item, item_players) for item, item_players in enumerate(players)
            ]

        device = side.tower.example.device
        scores = []
        errors = []
        for item_players, game in zip(players, evaluated, strict=True):
            effects = torch.from_numpy(game.effects).float()
            half_widths = torch.from_numpy(game.errors).float()
            scores.append(share_equally(effects, item_players, units.count))
            errors.append(share_equally(half_widths, item_players, units.count))

        return Estimates(
            torch.stack(scores).to(device),
            torch.stack(errors).to(device),
            evaluations=tuple(len(game.values) for game in evaluated),
            shares=tuple(share_of_error(game.effects, game.errors) for game in evaluated),
        )

    def _evaluated(
        self, side: Side, units: Units | Segments, players: Sequence[Sequence[tuple[int, ...]]]
    ) -> "list[EvaluatedGame]":
        """Evaluate all coalitions of a batch."""
        games = [self.coalitions(len(item_players)) for item_players in players]
        keep = coalition_masks([coalitions for coalitions, _ in games], players, units.count)
        values = masker(side, units)(keep.to(side.tower.example.device)).cpu().double().numpy()
        full_scores = side.value().cpu().double().numpy()
        return [
            self._game(coalitions, weights, values[: len(coalitions), item], full_scores[item, ...])
            for item, (coalitions, weights) in enumerate(games)
        ]

    def _until_reached(
        self, side: Side, of_all: Units | Segments, item: int, players: Sequence[tuple[int, ...]]
    ) -> "EvaluatedGame":
        """Evaluate coalitions of one item, until the error is small enough or the budget is spent."""
        assert self.error is not None
        alone = side.take([item]) if len(side.inputs) > 1 else side
        units = of_all[item] if isinstance(of_all, Segments) else self.units_of(alone)
        score = masker(alone, units)
        device = side.tower.example.device

        def evaluate(coalitions: Coalitions) -> Values:
            keep = coalition_masks([coalitions], [players], units.count)
            return score(keep.to(device))[:, 0].cpu().double().numpy()

        return self.until_reached(self.error, evaluate, alone.value().cpu().double().numpy()[0, ...], len(players))

    def until_reached(
        self, limit: float, evaluate: Callable[[Coalitions], Values], full: np.ndarray | float, players: int
    ) -> "EvaluatedGame":
        """Evaluate coalitions in rounds, until the error is small enough or the budget is spent.

        Args:
            limit: The largest error, as a share of the largest absolute effect.
            evaluate: Computes the values of coalitions.
            full: The value of all players.
            players: The number of players.
        """
        coalitions, weights = self.coalitions(players)
        if self.are_all(players):
            return self._game(coalitions, weights, evaluate(coalitions), full)

        others = np.flatnonzero(np.isinf(weights))  # which are no draws
        draws = self._draws(len(coalitions) - len(others))
        order = np.concatenate([others, draws.flatten()])
        values: list[np.ndarray] = []
        for last in rounds(len(draws), ceil(FEWEST * players)):
            rows = order[: len(others) + last * draws.shape[1]]
            values.append(evaluate(coalitions[rows[sum(map(len, values)) :]]))

            in_order = np.argsort(rows)  # as without a limit: complements after the first of all pairs
            own = rows[in_order]
            game = self._game(coalitions[own], weights[own], np.concatenate(values)[in_order], full)
            if share_of_error(game.effects, game.errors) <= limit:
                break

        return game

    def _draws(self, count: int) -> Int[np.ndarray, "draw row"]:
        """Return the rows of the coalitions of each draw: of a pair, or of one."""
        return np.arange(count).reshape(2, -1).T if self.in_pairs else np.arange(count)[:, None]

    def _game(
        self, coalitions: Coalitions, weights: Weights, values: Values, full: np.ndarray | float
    ) -> "EvaluatedGame":
        effects = self.fit(coalitions, weights, values, full)
        return EvaluatedGame(values, effects, self.half_widths(coalitions, values, full, effects))


@dataclass(frozen=True)
class ShareCoalitionMethod(CoalitionMethod):
    """Base class of methods whose coalitions keep each unit with one probability.

    Args:
        share: The probability that a unit is kept.
    """

    share: OpenShare = 0.5

    def coalitions(self, players: int) -> tuple[Coalitions, Weights]:
        return drawn_coalitions(players, self.budget, self.share, self.seed)

    @property
    def in_pairs(self) -> bool:
        return self.share == 0.5

    def are_all(self, players: int) -> bool:
        return 2**players <= self.budget


@dataclass(frozen=True)
class EvaluatedGame:
    """The values of coalitions of one item, the effects of its players, and their errors."""

    values: Values
    effects: np.ndarray
    errors: np.ndarray


def independent_draws(
    features: Float[np.ndarray, "coalition feature"],
    values: Values,
    players: int,
    share: float,
    of_means: bool = False,
) -> Regression:
    """Return the draws of coalitions that keep each player with the probability ``share``; those of 1/2 in pairs.

    The pairs of complements need only the first-order features, since those of order two are the same for both.
    """
    if share == 0.5:
        half = len(values) // 2
        first = features[:half, :players] - features[half:, :players]
        return Regression(first / 2, (values[:half] - values[half:]) / 2, players, players, 0, 0.25, of_means=of_means)

    centered = features - features.mean(0)
    outcomes = values - values.mean(0)
    return Regression(centered, outcomes, players, features.shape[1], 1, share * (1 - share), of_means=of_means)


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
