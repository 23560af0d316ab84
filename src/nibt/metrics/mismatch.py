"""Correlation of the map with the map of the same image for another caption, by Spearman.

The other caption is one of twelve of other subjects. It depends on the right caption only, and shares no word with it.
A map that depends on the image alone has 1.

Range:
    -1 to 1

Forward passes:
    one explanation

Use it when:
    You want to find maps that show all that is there, whatever the caption says, without ground truth.

Avoid it when:
    You want to rank methods by it alone: a map that is drawn at random for each caption has 0. Some correlation is
    right, as both captions leave out the background.

Source:
    nibt; the reviews of NIB's paper
"""

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from nibt.metrics._ranks import rank_correlation
from nibt.metrics.base import Metric, MetricInput
from nibt.types import PerExample

_DIGITS = 4  # of scores relative to the largest one; smaller differences are rounding errors


@dataclass(frozen=True)
class Mismatch(Metric):
    """Spearman's correlation of the map with that for another caption."""

    better = "lower"
    sides = ("image",)

    def __call__(self, metric_input: MetricInput) -> PerExample:
        scores = metric_input.attribution.scores
        if metric_input.of_other_caption is None:
            return torch.full((len(scores),), torch.nan, dtype=torch.float32)
        pairs = zip(scores, metric_input.of_other_caption().scores, strict=True)
        return torch.tensor([_spearman(*pair) for pair in pairs], dtype=torch.float32)


def _spearman(first: Float[Tensor, " unit"], second: Float[Tensor, " unit"]) -> float:
    """Return Spearman's correlation: 1 for two flat maps, and 0 if only one is flat."""
    exact = [scores.cpu().double() for scores in (first, second)]
    rounded = [(scores / scores.abs().max().clamp_min(1e-30)).round(decimals=_DIGITS) for scores in exact]
    flat = [bool((scores == scores[0]).all()) for scores in rounded]
    return float(all(flat)) if any(flat) else rank_correlation(*rounded)
