"""A control: uniform random scores in [0, 1).

The draw of an item depends on the seed and on a checksum of the item. Items therefore get different maps, and the map
of an item depends neither on its batch nor on the order.

Answers:
    Nothing: it is a control.

Use it when:
    You report a metric: a method that is not better than ``random`` explains nothing on that data.

Avoid it when:
    You want an explanation.
"""

from dataclasses import dataclass

import numpy as np
import torch

from nibt.core.perturbation import item_rng
from nibt.core.side import Side
from nibt.data.units import Segments, Units
from nibt.methods._units import ControlMethod
from nibt.options import Seed
from nibt.types import PerUnit


@dataclass(frozen=True)
class Random(ControlMethod):
    """Uniform random scores in [0, 1)."""

    seed: Seed = 0

    def scores(self, side: Side, units: Units | Segments) -> PerUnit:
        drawn = [item_rng(side.inputs, item, self.seed).random(units.count) for item in range(len(side.inputs))]
        return torch.from_numpy(np.stack(drawn)).to(side.tower.example.device, torch.float32)


PLUGIN = Random
