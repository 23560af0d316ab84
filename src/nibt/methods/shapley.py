"""Shapley values of the units by kernel SHAP (Lundberg and Lee, NeurIPS 2017, arXiv 1705.07874).

The coalitions are drawn in pairs (Covert and Lee, AISTATS 2021, arXiv 2012.01536). The game (Shapley, 1953) is the
score of the input with only the units of a coalition kept. The Shapley values are the additive game with the sum
S(all) - S(none) that is nearest to it by least squares, where coalitions of s of n units have the weight
(n - 1) / (C(n, s) s (n - s)).
The values are exact if the budget covers all coalitions; otherwise it is spent on pairs of a coalition and its
complement.

Answers:
    What each part contributes on average over all orders in which parts are added.

Use it when:
    You want a reference that is fair to parts that say the same, or exact values for a caption of up to nine tokens.

Avoid it when:
    The tower has many units: below four coalitions per unit the values are rough.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from math import comb
from typing import ClassVar

import numpy as np
import torch
from typing_extensions import override

from nibt.core.perturbation import masker
from nibt.core.side import Side
from nibt.data.units import Grid, Units
from nibt.methods._checks import at_least, generator
from nibt.methods._units import UnitMethod
from nibt.types import PerUnit


@dataclass(frozen=True)
class Shapley(UnitMethod):
    """Shapley values by weighted least squares.

    Args:
        budget: The number of coalitions, besides the full and the empty one. The scores
            add up to S(all) - S(none) for any budget.
        seed: The seed of the coalitions.

    """

    paper = "Lundberg and Lee, NeurIPS 2017, arXiv 1705.07874"
    kind = "perturbation"
    cost = "3 + budget"
    variants: ClassVar = {name: {"image": {}, "text": {}} for name in ("default", "paper")}

    budget: int = 512
    seed: int = 0

    def __post_init__(self) -> None:
        super().__post_init__()
        at_least(2, budget=self.budget)
        at_least(0, seed=self.seed)

    @override
    def scores(self, side: Side, units: Units) -> PerUnit:
        device, item_players = side.tower.example.device, _players(units, len(side.inputs))
        games = [_coalitions(len(players), self.budget, self.seed) for players in item_players]
        width = units.count if isinstance(units, Grid) else units.explained.shape[1]
        most = max(len(shown) for shown, _ in games)
        keep = torch.ones(most + 1, len(item_players), width, dtype=torch.float32, device="cpu")
        for item, (players, (shown, _)) in enumerate(zip(item_players, games, strict=True)):
            keep[-1, item, players] = 0.0  # the empty coalition
            keep[: len(shown), item, players] = torch.from_numpy(shown).float()
        values = masker(side, units)(keep.to(device)).double().cpu().numpy()
        total = side.value().double().cpu().numpy()
        scores = torch.zeros(len(item_players), width, dtype=torch.float32, device="cpu")
        for item, (players, (shown, weights)) in enumerate(zip(item_players, games, strict=True)):
            gains = values[: len(shown), item] - values[-1, item]
            result = _regression(shown.astype(np.float64), weights, gains, total[item] - values[-1, item])
            scores[item, players] = torch.from_numpy(result).float()
        return scores.to(device)


def _players(units: Units, count: int) -> Sequence[list[int]]:
    """Return the players of each item: its explained units."""
    if isinstance(units, Grid):
        return [list(range(units.count))] * count
    return [row.nonzero()[:, 0].tolist() for row in units.explained.cpu()]


@lru_cache(maxsize=64)
def _coalitions(players: int, budget: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Return coalitions, neither empty nor full, and their weights; all coalitions if the budget allows."""
    if 2**players - 2 <= budget:
        shown = (np.arange(1, 2**players - 1)[:, None] >> np.arange(players) & 1).astype(bool)
        sizes = shown.sum(1)
        return shown, np.array([1 / (comb(players, size) * size * (players - size)) for size in sizes])
    draws, sizes = generator(seed), np.arange(1, players)
    chances = 1 / (sizes * (players - sizes))
    drawn = draws.choice(sizes, size=budget // 2, p=chances / chances.sum())
    shown = draws.random((budget // 2, players)).argsort(1) < drawn[:, None]
    return np.concatenate([shown, ~shown]), np.ones(2 * len(shown))


def _regression(shown: np.ndarray, weights: np.ndarray, gains: np.ndarray, total: float) -> np.ndarray:
    """Fit the additive game with the sum ``total`` to the gains by least squares with a Lagrange multiplier."""
    if shown.shape[1] == 1:
        return np.array([total])
    inverse = np.linalg.pinv(shown.T @ (weights[:, None] * shown), hermitian=True)
    free, sums = inverse @ (shown.T @ (weights * gains)), inverse.sum(1)
    return free - sums * (free.sum() - total) / sums.sum()


PLUGIN = Shapley
