r"""Noun mass: the share of the absolute scores with the right sign in the right place.

$$\frac{\text{positive score on the object} + \text{absolute negative score elsewhere}}{\text{all absolute score}}$$

Range:
    0 to 1; about 1/2 for signs at random

Forward passes:
    none

Use it when:
    You read the signs of a table.

Avoid it when:
    The scores elsewhere ought to be zero rather than negative.

Source:
    nibt
"""

from dataclasses import dataclass

from nibt.metrics.base import Metric, Noun, PixelMap, RegionsInput, mean_over_nouns
from nibt.types import PerExample


@dataclass(frozen=True)
class NounMass(Metric[RegionsInput]):
    """The share of the absolute scores with the right sign in the right place."""

    better = "higher"
    sides = ("regions",)

    def __call__(self, metric_input: RegionsInput) -> PerExample:
        return mean_over_nouns(metric_input, _share)


def _share(pixels: PixelMap, noun: Noun) -> float:
    exact = pixels.double()
    right = exact[noun.mask].clamp_min(0).sum() - exact[~noun.mask].clamp_max(0).sum()
    total = exact.abs().sum()
    return float(right / total) if total > 0 else 0.0


PLUGIN = NounMass
