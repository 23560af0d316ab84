"""Hiding parts of an input. Inputs are masked here and nowhere else, forward only."""

from collections.abc import Callable
from dataclasses import replace

import torch
import torch.nn.functional as F

from nibt.models.base import TextTower
from nibt.side import Side
from nibt.types import PerExample, PerUnit
from nibt.units import Grid, Units


def masker(side: Side, units: Units, smooth: bool = False) -> Callable[[PerUnit], PerExample]:
    """The score of a side as a function of how much of each unit is kept: 1 all of it, 0 nothing.

    A pixel is scaled after normalising, so nothing is the mean colour; ``smooth`` stretches the units over the pixels
    bilinearly, without seams. A word is faded as its embedding, toward the padding token's, before it gets its place;
    special tokens stay whole.
    """
    inputs, tower = side.inputs, side.tower
    mode = "bilinear" if smooth else "nearest"

    def of_image(keep: PerUnit) -> PerExample:
        assert isinstance(units, Grid)
        weights = F.interpolate(units.unfold(keep)[:, None], inputs.values.shape[-2:], mode=mode).to(inputs.values)
        return side.score(tower.encode(replace(inputs, values=inputs.values * weights)))

    def of_text(keep: PerUnit) -> PerExample:
        assert isinstance(tower, TextTower)
        assert inputs.words is not None
        explained = inputs.words.explained.to(keep.device)
        whole = torch.where(explained, keep[:, : explained.shape[1]], 1.0)
        with tower.fading(whole):
            return side.score(tower.encode(inputs))

    return of_image if isinstance(units, Grid) else of_text
