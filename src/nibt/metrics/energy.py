"""Energy-based pointing game: the share of the positive scores on the named objects, from 0 to 1.

Negative pixels become 0. A map without positive pixels gets 0.

This is the relevance mass accuracy of Arras et al., 2022, too.

Range:
    0 to 1

Forward passes:
    none

Use it when:
    You want to know how focused a map is.

Avoid it when:
    You compare rectified maps with maps that are positive everywhere, such as ``legrad``: 0.13 on ``scenes`` with a
    good order.

Source:
    Wang et al., CVPR workshops 2020 (Score-CAM); Arras et al., Information Fusion 81, 2022
"""

from dataclasses import dataclass

from nibt.metrics.base import MaskMetric, PixelMap, PixelMask


@dataclass(frozen=True)
class Energy(MaskMetric):
    """The share of the positive scores on the named objects."""

    def number(self, scores: PixelMap, mask: PixelMask) -> float:
        mass = scores.double().clamp_min(0)
        return float(mass[mask].sum() / mass.sum()) if mass.sum() > 0 else 0.0


PLUGIN = Energy
