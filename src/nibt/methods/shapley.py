"""Shapley values of the units (Shapley, 1953), by regression: kernel SHAP (Lundberg and Lee, NeurIPS 2017, arXiv
1705.07874) with paired draws (Covert and Lee, AISTATS 2021, arXiv 2012.01536).

The game is the score with some units shown and the others hidden. Among all additive games phi whose sum is that of
the whole, S(all) - S(none), the Shapley values are the one nearest to it in the sense of the weights
(n - 1) / (C(n, s) s (n - s)) of coalitions of s units. It asks nothing of a tower but its score: a yardstick. Where
the budget covers every coalition, the values are exact; else it is spent on pairs of a coalition and its complement.
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
    """``budget``: how many coalitions are tried, besides all and none.

    Fewer than some four times the units make a rough estimate; the scores add up to S(all) - S(none) whatever the
    budget.
    """

    paper = "Lundberg and Lee, NeurIPS 2017, arXiv 1705.07874"
    cost = "3 + budget"
    variants: ClassVar = {name: {"image": {}, "text": {}} for name in ("default", "paper")}

    budget: int = 512
    seed: int = 0

    def __post_init__(self) -> None:
        at_least(2, budget=self.budget)
        at_least(0, seed=self.seed)

    @override
    def scores(self, side: Side, units: Units) -> PerUnit:
        device, places = side.tower.example.device, _places(units, len(side.inputs))
        games = [_coalitions(len(players), self.budget, self.seed) for players in places]
        width = units.count if isinstance(units, Grid) else units.explained.shape[1]
        most = max(len(shown) for shown, _ in games)
        keep = torch.ones(most + 1, len(places), width, dtype=torch.float32, device="cpu")
        for item, (players, (shown, _)) in enumerate(zip(places, games, strict=True)):
            keep[-1, item, players] = 0.0  # hidden altogether
            keep[: len(shown), item, players] = torch.from_numpy(shown).float()
        values = masker(side, units)(keep.to(device)).double().cpu().numpy()
        whole = side.value().double().cpu().numpy()
        scores = torch.zeros(len(places), width, dtype=torch.float32, device="cpu")
        for item, (players, (shown, weights)) in enumerate(zip(places, games, strict=True)):
            gains = values[: len(shown), item] - values[-1, item]
            found = _regression(shown.astype(np.float64), weights, gains, whole[item] - values[-1, item])
            scores[item, players] = torch.from_numpy(found).float()
        return scores.to(device)


def _places(units: Units, count: int) -> Sequence[list[int]]:
    """The players of each item: its explained units."""
    if isinstance(units, Grid):
        return [list(range(units.count))] * count
    return [row.nonzero()[:, 0].tolist() for row in units.explained.cpu()]


@lru_cache(maxsize=64)
def _coalitions(players: int, budget: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Coalitions, neither empty nor full, and their weights; all of them where the budget allows."""
    if 2**players - 2 <= budget:
        shown = (np.arange(1, 2**players - 1)[:, None] >> np.arange(players) & 1).astype(bool)
        sizes = shown.sum(1)
        return shown, np.array([1 / (comb(players, size) * size * (players - size)) for size in sizes])
    draws, sizes = generator(seed), np.arange(1, players)
    chances = 1 / (sizes * (players - sizes))
    drawn = draws.choice(sizes, size=budget // 2, p=chances / chances.sum())
    shown = draws.random((budget // 2, players)).argsort(1) < drawn[:, None]
    return np.concatenate([shown, ~shown]), np.ones(2 * len(shown))


def _regression(shown: np.ndarray, weights: np.ndarray, gains: np.ndarray, whole: float) -> np.ndarray:
    """The additive game nearest to the gains among those whose sum is the whole: least squares with a multiplier."""
    if shown.shape[1] == 1:
        return np.array([whole])
    inverse = np.linalg.pinv(shown.T @ (weights[:, None] * shown), hermitian=True)
    free, ones = inverse @ (shown.T @ (weights * gains)), inverse.sum(1)
    return free - ones * (free.sum() - whole) / ones.sum()


PLUGIN = Shapley
