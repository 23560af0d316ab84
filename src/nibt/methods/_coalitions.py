"""Methods that evaluate the input with random coalitions of its units, and fit an additive model to the scores."""

from abc import abstractmethod
from dataclasses import dataclass
from typing import Annotated, ClassVar

import numpy as np
import torch
from jaxtyping import Bool, Float

from nibt.core.perturbation import generator, masker
from nibt.core.side import Side
from nibt.data.units import Segments, Units
from nibt.methods._units import SegmentMethod, coalition_masks, share_equally
from nibt.methods.base import both_sides
from nibt.options import Range, Seed
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
