"""Methods that evaluate the input with random coalitions of its units, and fit an additive model to the scores."""

from abc import abstractmethod
from dataclasses import dataclass
from typing import Annotated

import numpy as np
import torch
from jaxtyping import Bool, Float

from nibt.core.perturbation import masker
from nibt.core.side import Side
from nibt.data.units import Segments, Units
from nibt.methods._checks import generator
from nibt.methods._segments import SegmentMethod
from nibt.methods._units import coalition_masks, share_equally
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

    kind = "perturbation"
    linear = True

    budget: Annotated[int, Range(2, 100_000)] = 512
    seed: Seed = 0

    @abstractmethod
    def coalitions(self, players: int) -> tuple[Coalitions, Weights]:
        """Return the coalitions of so many players, the same for every item, and their weights."""

    @abstractmethod
    def fit(self, shown: Coalitions, weights: Weights, values: Values, whole: np.ndarray | float) -> np.ndarray:
        """Fit the effect of each player: (player, *value)."""

    def scores(self, side: Side, units: Units | Segments) -> UnitValues:
        device, players = side.tower.example.device, self.players(units, len(side.inputs))
        games = [self.coalitions(len(item_players)) for item_players in players]
        keep = coalition_masks([shown for shown, _ in games], players, units.count)
        values = masker(side, units)(keep.to(device)).cpu().double().numpy()
        whole = side.value().cpu().double().numpy()
        scores = []
        for item, (item_players, (shown, weights)) in enumerate(zip(players, games, strict=True)):
            result = self.fit(shown, weights, values[: len(shown), item], whole[item, ...])
            scores.append(share_equally(torch.from_numpy(result).float(), item_players, units.count))
        return torch.stack(scores).to(device)


def subsets(count: int) -> Coalitions:
    """Return all coalitions of ``count`` players: the empty one first, the full one last."""
    return (np.arange(2**count)[:, None] >> np.arange(count) & 1).astype(bool)


def drawn_coalitions(players: int, budget: int, share: float, seed: int) -> tuple[Coalitions, Weights]:
    """Return coalitions that keep each player with the probability ``share``, and their weights.

    If the budget covers all coalitions, these are returned with their probabilities. With the share 1/2, coalitions are
    drawn in pairs with their complements, whose differences have no effects of even order.
    """
    if 2**players <= budget:
        shown = subsets(players)
        sizes = shown.sum(1)
        return shown, share**sizes * (1 - share) ** (players - sizes)
    if share == 0.5:
        half = generator(seed).random((budget // 2, players)) < share
        shown = np.concatenate([half, ~half])
    else:
        shown = generator(seed).random((budget, players)) < share
    return shown, np.full(len(shown), 1 / len(shown))


def centered_monomials(shown: Coalitions, share: float) -> np.ndarray:
    """Return the features of a model of order two: each player, and each pair of players.

    With the mean ``share`` subtracted from each player they are uncorrelated, so the coefficient of a player is its
    mean effect.
    """
    first = shown - share
    one, other = np.triu_indices(shown.shape[1], 1)
    return np.concatenate([first, first[:, one] * first[:, other]], 1)


def least_squares(features: np.ndarray, weights: Weights, values: Values, ridge: float = 0.0) -> np.ndarray:
    """Return the coefficients of weighted least squares with a free intercept, which is left out."""
    root = np.sqrt(weights / weights.sum())[:, None]
    own = root * (features - (weights @ features) / weights.sum())
    rest = root * (values.reshape(len(values), -1) - (weights @ values.reshape(len(values), -1)) / weights.sum())
    penalty = ridge / len(features)
    if len(own) >= own.shape[1]:
        inverse = np.linalg.pinv(own.T @ own + penalty * np.eye(own.shape[1]), rcond=RCOND, hermitian=True)
        result = inverse @ (own.T @ rest)
    else:
        inverse = np.linalg.pinv(own @ own.T + penalty * np.eye(len(own)), rcond=RCOND, hermitian=True)
        result = own.T @ (inverse @ rest)
    return result.reshape(own.shape[1], *values.shape[1:])
