r"""Infidelity: the squared error of scores as predictions of the drop when units are removed.

$$\text{infidelity} = \text{mean}_M \left(\sum_{u \in M} \text{score}_u - \text{drop}_M\right)^2$$

$M$ are the units that a random mask removes, and $\text{drop}_M = S - S(\text{without } M)$. A mask draws a share
uniformly from [0, 1] and removes each unit with that probability, so that few units are removed as often as many. The
exact attribution of a linear model has infidelity 0.

Range:
    0 and up, squared units of the score

Forward passes:
    ``masks``, 64

Use it when:
    You use the scores as amounts.

Avoid it when:
    The map does not have the unit of the score, as with attention; ``scaled`` helps.

Source:
    Yeh et al., NeurIPS 2019, arXiv 1901.09392, definition 2.1
"""

from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Bool
from torch import Tensor

from nibt.core.perturbation import item_rng, masker
from nibt.data.units import Grid
from nibt.metrics._perturbation import PerturbationMetric
from nibt.metrics.base import MetricInput
from nibt.options import Samples
from nibt.types import PerExample

_MASKS = 3  # separates these draws from those of the backdrops


@dataclass(frozen=True)
class Infidelity(PerturbationMetric):
    """The mean squared error of scores as predictions of the drop of the score.

    Args:
        masks: The number of masks.
        scaled: Whether each map is multiplied by the factor of at least 0 that minimizes its infidelity, so that only
            the shape of the map counts.
    """

    better = "lower"
    masks: Samples = 64
    scaled: bool = False

    def __call__(self, metric_input: MetricInput) -> PerExample:
        scores = metric_input.attribution.scores.float()
        hidden = self.hidden(metric_input).to(scores.device)
        score = masker(metric_input.side, metric_input.attribution.units, hide=self.hide, seed=self.seed)
        drop = (metric_input.side.value() - score(1 - hidden.float())).float()
        predicted = (hidden * scores).sum(-1)
        if self.scaled:
            factor = ((predicted * drop).sum(0) / predicted.square().sum(0).clamp_min(1e-30)).clamp_min(0)
            predicted = predicted * factor
        return (predicted - drop).square().mean(0).cpu()

    def hidden(self, metric_input: MetricInput) -> Bool[Tensor, "mask batch unit"]:
        """Draw the units that each mask removes."""
        units, (count, width) = metric_input.attribution.units, metric_input.attribution.scores.shape
        explained = torch.ones(count, width, dtype=torch.bool) if isinstance(units, Grid) else units.explained.cpu()
        hidden = torch.zeros(self.masks, count, width, dtype=torch.bool)
        for item, players in enumerate(explained):
            drawn = item_rng(metric_input.side.inputs, item, self.seed, _MASKS)
            shares = drawn.random((self.masks, 1))
            removed = drawn.random((self.masks, int(players.sum()))) < shares
            hidden[:, item, players] = torch.from_numpy(np.ascontiguousarray(removed))
        return hidden
