"""Infidelity (Yeh et al., NeurIPS 2019, arXiv 1901.09392, definition 2.1): how far the scores of hidden units are from
telling what hiding them takes away, the mean over random masks of

    (sum of the scores of the hidden units - (S - S without them))^2

A mask takes a share of the units, drawn evenly from 0 to 1, and hides each unit with that chance, so that few units
are hidden as often as many. Masks are drawn for each item by itself. The scores of an exact explanation of a linear
model have none. A map that is not in the units of the score (attention, say) can be compared only ``scaled``.
"""

from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Bool
from torch import Tensor
from typing_extensions import override

from nibt.core.perturbation import item_rng, masker
from nibt.data.units import Grid
from nibt.errors import BadOption
from nibt.metrics._hiding import PerturbationMetric
from nibt.metrics.base import MetricInput
from nibt.types import PerExample

_MASKS = 3  # so that these draws are not those of the backdrops


@dataclass(frozen=True)
class Infidelity(PerturbationMetric):
    """``masks``: how many are drawn.

    ``scaled``: each map is first multiplied by the factor, not below 0, that makes its infidelity least, so that only
    its shape counts.
    """

    better = "lower"
    masks: int = 64
    scaled: bool = False

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.masks < 1:
            raise BadOption(f"masks must be at least 1 (got {self.masks})")

    @override
    def __call__(self, trial: MetricInput) -> PerExample:
        scores, hidden = trial.attribution.scores.float(), self.hidden(trial).to(trial.attribution.scores.device)
        score = masker(trial.side, trial.attribution.units, hide=self.hide, seed=self.seed)
        taken = (trial.side.value() - score(1 - hidden.float())).float()
        told = (hidden * scores).sum(-1)
        if self.scaled:
            told = told * ((told * taken).sum(0) / told.square().sum(0).clamp_min(1e-30)).clamp_min(0)
        return (told - taken).square().mean(0).cpu()

    def hidden(self, trial: MetricInput) -> Bool[Tensor, "mask batch unit"]:
        """The units that each mask hides."""
        units, (count, width) = trial.attribution.units, trial.attribution.scores.shape
        explained = torch.ones(count, width, dtype=torch.bool) if isinstance(units, Grid) else units.explained.cpu()
        hidden = torch.zeros(self.masks, count, width, dtype=torch.bool)
        for item, players in enumerate(explained):
            drawn = item_rng(trial.side.inputs, item, self.seed, _MASKS)
            shares = drawn.random((self.masks, 1))
            chosen = drawn.random((self.masks, int(players.sum()))) < shares
            hidden[:, item, players] = torch.from_numpy(np.ascontiguousarray(chosen))
        return hidden


PLUGIN = Infidelity
