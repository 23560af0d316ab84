"""A control: the same score for every unit.

Metrics that rescale maps to [0, 1] make a flat map 0, so it keeps nothing of the input.

Answers:
    Nothing: it is a control.

Use it when:
    You report a metric: what ``ones`` reaches does not come from the map.

Avoid it when:
    You want an explanation.
"""

from dataclasses import dataclass

import torch

from nibt.core.side import Side
from nibt.data.units import Segments, Units
from nibt.methods._units import ControlMethod
from nibt.types import PerUnit


@dataclass(frozen=True)
class Ones(ControlMethod):
    """A score of 1 for every unit."""

    def scores(self, side: Side, units: Units | Segments) -> PerUnit:
        return torch.ones(len(side.inputs), units.count, dtype=torch.float32, device=side.tower.example.device)


PLUGIN = Ones
