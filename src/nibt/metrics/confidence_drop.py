r"""Confidence drop: how much of the score is lost when only what the map keeps is shown.

$$\text{drop} = 100 \max(0, S - S_{\text{kept}})$$

The protocol ``paper`` is that of the authors of NIB, which encodes captions without their start and end tokens.

Range:
    0 to 200 for the cosine

Forward passes:
    1

Use it when:
    You compare with the tables of M2IB and NIB. Use the protocols ``m2ib`` and ``paper`` for their numbers.

Avoid it when:
    You want to know which map is better: maps that are bright everywhere win. On ``scenes`` a random map can beat
    NIB. Never report it without the three controls.

Source:
    Chattopadhay et al., WACV 2018 (Grad-CAM++)
"""

from dataclasses import dataclass

from nibt.metrics._confidence import Confidence
from nibt.metrics.base import MetricInput
from nibt.types import PerExample


@dataclass(frozen=True)
class ConfidenceDrop(Confidence):
    """The drop of the score when only what the map keeps is shown, times 100."""

    better = "lower"

    def __call__(self, metric_input: MetricInput) -> PerExample:
        score, kept = self.scores(metric_input)
        return 100 * (score - kept).clamp_min(0).float().cpu()


PLUGIN = ConfidenceDrop
