"""Uniform scores in [0, 1): what any method must beat.

Each item has its own draw, by the seed and a checksum of the item itself: so a set of pictures is not measured with
one map over and over, and yet an item's map depends neither on the batch nor on the order.
"""

import zlib
from dataclasses import dataclass

import numpy as np
import torch

from nibt.methods.base_checks import at_least, generator
from nibt.methods.base_units import UnitMethod
from nibt.models.base_trace import Inputs
from nibt.side import Side
from nibt.types import PerUnit
from nibt.units import Grid, Units


@dataclass(frozen=True)
class Random(UnitMethod):
    paper = "none: a control"
    cost = "0"

    seed: int = 0

    def __post_init__(self) -> None:
        at_least(0, seed=self.seed)

    def scores(self, side: Side, units: Units) -> PerUnit:
        count = units.count if isinstance(units, Grid) else units.explained.shape[1]
        drawn = [generator(self.seed, _checksum(side.inputs, item)).random(count) for item in range(len(side.inputs))]
        return torch.from_numpy(np.stack(drawn)).to(side.tower.example.device, torch.float32)


def _checksum(inputs: Inputs, item: int) -> int:
    """Of the pixels, or of the ids of the words: what a caption is padded with does not count."""
    values = inputs.values[item].cpu()
    if inputs.words is not None:
        values = values[inputs.words.explained[item].cpu()]
    return zlib.crc32(values.float().contiguous().numpy().tobytes())


PART = Random
