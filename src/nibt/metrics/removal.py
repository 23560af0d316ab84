"""Removal: whether the object with the largest sum of scores is the one whose removal lowers the score most, 1 or 0.

Each object that the caption names is removed alone: the data set draws the image again without it (``scenes``), or the
object is filled in as by ``road``. The sum of a map over an object divides units by area. Images with fewer than two
visible named objects have no value. Equal sums share the value. Chance is 1 / number of objects.

Range:
    0 or 1

Forward passes:
    1 per named object of the image, once for all methods

Use it when:
    You want to know which region contributes more, and not only whether scores are on objects.

Avoid it when:
    Captions name one object. Models that take patches or tiles instead of an image (SigLIP 2 NaFlex) have a value only
    if the data set draws images again.

Source:
    nibt; removal by drawing again: CLEVR-XAI and Hesse et al., ICCV 2023 (FunnyBirds, single deletion)
"""

from dataclasses import dataclass, replace
from functools import partial

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from nibt.core.interpolation import filled_in
from nibt.core.side import Side
from nibt.data.ground_truth import GroundTruth
from nibt.data.images import Region
from nibt.metrics.base import MetricInput, PixelMask, ShareMetric
from nibt.models.base import ImageTower
from nibt.results.map_regions import segment_sums
from nibt.types import PerExample

Numbers = Float[np.ndarray, " object"]


@dataclass(frozen=True)
class Removal(ShareMetric):
    """Whether the named object with the largest sum of scores is the one whose removal lowers the score most."""

    def __call__(self, metric_input: MetricInput) -> PerExample:
        return torch.tensor(
            [
                _agreement(sums, drops) if len(sums) > 1 and np.isfinite(drops).all() else torch.nan
                for sums, drops in self.effects(metric_input)
            ],
            dtype=torch.float32,
        )

    def effects(self, metric_input: MetricInput) -> list[tuple[Numbers, Numbers]]:
        """Return, for the named objects of each image, the sums of the map and the drops of the score by removal.

        Drops are NaN if the tower takes no image in which an object could be filled in.
        """
        side, truths = metric_input.side, metric_input.truths
        key = "embeddings without each object"
        embeddings = metric_input.once_for_all_methods(key, partial(_embeddings_without_objects, side, truths))
        drops = torch.stack([side.value() - side.score(removed) for removed in embeddings]) if embeddings else None
        results: list[tuple[Numbers, Numbers]] = []
        for item, truth in enumerate(truths):
            grid = metric_input.attribution[item].grid.cpu().double().numpy()
            sums = np.array([_sum(grid, mask) for mask in truth.objects])
            fell = np.array([]) if drops is None else drops[: len(sums), item].cpu().double().numpy()
            fillable = side.inputs.values.ndim == 4
            measurable = [fillable or without is not None for without in truth.without]
            results.append((sums, np.where(measurable, fell, np.nan)))
        return results


def _agreement(sums: Numbers, drops: Numbers) -> float:
    """Return the share of the objects with the largest sum whose drop is the largest; NaN if all drops are equal."""
    return torch.nan if np.ptp(drops) == 0 else float((drops == drops.max())[sums == sums.max()].mean())


def _sum(grid: Float[np.ndarray, "row column"], mask: PixelMask) -> float:
    """Return the sum of a map over an object."""
    height, width = mask.shape
    labels = mask.int().numpy()
    return float(segment_sums(grid, Region(0.0, 0.0, float(width), float(height)), (width, height), labels)[1])


def _embeddings_without_objects(side: Side, truths: tuple[GroundTruth, ...]) -> list[Tensor]:
    """Return the embeddings of images without their first named object, then without their second, and so on."""
    most = max((len(truth.objects) for truth in truths), default=0)
    return [
        side.tower.encode(
            replace(side.inputs, values=torch.stack([_without(side, *row, place) for row in enumerate(truths)]))
        )
        for place in range(most)
    ]


def _without(side: Side, item: int, truth: GroundTruth, place: int) -> Tensor:
    """Return the tower's input for an image without one of its named objects; the whole one if it has fewer."""
    tower, values = side.tower, side.inputs.values[item]
    assert isinstance(tower, ImageTower)
    if place >= len(truth.objects):
        return values
    draw = truth.without[place]
    if draw is not None:
        return tower.prepare([draw()]).values[0].to(values)
    if values.ndim != 3:
        return values
    mask = F.adaptive_max_pool2d(truth.objects[place][None, None].float(), tower.extent(side.inputs))
    removed = F.max_pool2d(mask, 3, 1, 1)[0, 0].bool().numpy()  # resized edges have colors of the object, too
    return filled_in(values, removed)
