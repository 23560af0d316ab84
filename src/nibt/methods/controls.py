"""Controls: scores that do not depend on the model, to compare the metrics of methods with."""

import sys
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from nibt.core.perturbation import item_rng
from nibt.core.side import Side
from nibt.data.units import Grid, Segments, SequenceUnits, Units, Words
from nibt.methods._units import UnitMethod
from nibt.options import Positive, Seed
from nibt.types import PerUnit


class ControlMethod(UnitMethod):
    """Base class of controls, which do not use the model."""

    paper = "none: a control"
    category = "control"
    cost = "0"
    signed = False
    reads_score = False

    @property
    def lowest(self) -> int:
        """A layer beyond the last one: no state is read but that of the last one, for its units."""
        return sys.maxsize


@dataclass(frozen=True)
class Random(ControlMethod, name="random"):
    """A control: uniform random scores in [0, 1).

    The scores of an image or caption depend only on the seed and on its content. So different images get different
    maps, and a map does not depend on the batch or on the order of the images.

    Shows:
        Nothing about the model: it is a control.

    Use it when:
        You report a metric: if a method is not better than ``random``, the value is no evidence for the method.

    Avoid it when:
        You want an explanation.

    Args:
        seed: The seed of the scores.
    """

    seed: Seed = 0

    def scores(self, side: Side, units: Units | Segments) -> PerUnit:
        drawn = [item_rng(side.inputs, item, self.seed).random(units.count) for item in range(len(side.inputs))]
        return torch.from_numpy(np.stack(drawn)).to(side.tower.example.device, torch.float32)


@dataclass(frozen=True)
class Ones(ControlMethod, name="ones"):
    """A control: the same score for every unit.

    Metrics that scale maps to [0, 1] (confidence drop and increase) turn this map into zeros. They then multiply the
    input by zeros, so nothing of the input is kept. The sum of this map over an object is the area of the object. So
    its correlation with removal, 0.19, shows only that larger objects matter slightly more.

    Shows:
        Nothing about the model: it is a control.

    Use it when:
        You report a metric: if a method has no better value than ``ones``, the value is no evidence for the method.

    Avoid it when:
        You want an explanation.
    """

    def scores(self, side: Side, units: Units | Segments) -> PerUnit:
        return torch.ones(len(side.inputs), units.count, dtype=torch.float32, device=side.tower.example.device)


@dataclass(frozen=True)
class Center(ControlMethod, name="center"):
    r"""A control: a Gaussian around the center, the same for every image and caption.

    $$\text{score} = \exp(-d^2 / (2 \, \text{spread}^2))$$

    $d$ is the distance from the center of the image, in coordinates in which the outermost patches are at -1 and 1 on
    each axis. The tokens of a caption's words are on a line from -1 (the first) to 1 (the last); a single token is at
    0.

    Shows:
        Nothing about the model: it is a control.

    Use it when:
        You report a metric that uses ground truth: objects are often in the center of photographs, so this control may
        score well.

    Avoid it when:
        You want an explanation.

    Args:
        spread: The standard deviation, relative to half the size of the image or caption.
    """

    spread: Positive = 0.5

    def scores(self, side: Side, units: Units | Segments) -> PerUnit:
        distances = _distances(units, len(side.inputs))
        return torch.exp(-distances / (2 * self.spread**2)).to(side.tower.example.device)


def _distances(units: Units | Segments, count: int) -> PerUnit:
    """Return the squared distance of each unit from the center of the image, or of the caption."""
    if isinstance(units, SequenceUnits):
        return torch.cat([_distances(units.grid, count), _distances(units.words, count)], -1)
    if isinstance(units, Grid):
        rows = _line(units.rows)
        columns = _line(units.columns)
        return (rows[:, None] ** 2 + columns[None] ** 2).flatten().expand(count, -1)

    assert isinstance(units, Words)
    distances = torch.zeros(units.explained.shape, dtype=torch.float32, device="cpu")
    for row, explained in zip(distances, units.explained.cpu(), strict=True):
        row[explained] = _line(int(explained.sum())) ** 2
    return distances


def _line(count: int) -> Tensor:
    """Return ``count`` positions from -1 to 1; a single position is 0."""
    if count == 1:
        return torch.zeros(1, dtype=torch.float32, device="cpu")
    return torch.linspace(-1, 1, count, dtype=torch.float32, device="cpu")
