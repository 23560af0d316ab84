"""The energy-based pointing game (Wang et al., 2020, Score-CAM): the share of the map's positive mass that lies on what
the caption names, from 0 to 1. A map without positive mass has 0.
"""

from dataclasses import dataclass

from typing_extensions import override

from nibt.metrics.base import Metric, MetricInput, PixelMap, PixelMask, on_masks
from nibt.types import PerExample


@dataclass(frozen=True)
class Energy(Metric):
    better = "higher"
    sides = ("image",)

    @override
    def __call__(self, trial: MetricInput) -> PerExample:
        return on_masks(trial, _share)


def _share(scores: PixelMap, mask: PixelMask) -> float:
    mass = scores.double().clamp_min(0)
    return float(mass[mask].sum() / mass.sum()) if mass.sum() > 0 else 0.0


PLUGIN = Energy
