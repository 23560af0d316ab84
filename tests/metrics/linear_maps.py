"""Maps of linear towers, whose exact scores are known."""

from dataclasses import replace
from typing import Any

import pytest
import torch

import nibt
from nibt.core.side import Side
from nibt.data.pair import Pair
from nibt.data.units import Words
from nibt.metrics.base import MetricInput
from nibt.models.base import Model
from nibt.results.attribution import Attribution
from tests import linear, tiny


def pairs(count: int = 3) -> list[Pair]:
    return [Pair(tiny.image(seed=seed), caption) for seed, caption in enumerate(tiny.CAPTIONS[:count])]


def values(model: Model, data: list[Pair], metric: Any, **options: Any) -> list[float]:
    return [row.value for row in nibt.measure(model, data, [metric], **options)]


def trial(of: Side, method: Any) -> MetricInput:
    return MetricInput(of, method(of), again=method)


def exact(of: Side) -> Attribution:
    return Attribution(linear.parts(of), of.units, torch.zeros(len(of.inputs)))


def ordered(of: Side, metric: Any) -> tuple[torch.Tensor, ...]:
    """Return the metric of the exact map, of an even map with the same sum, and of the reversed map, for a positive
    linear score.
    """
    sign = of.value().sign()
    up = replace(of, score=lambda here: sign * of.score(here))
    best = replace(exact(of), scores=sign[:, None] * exact(of).scores)
    explained = of.units.explained if isinstance(of.units, Words) else torch.ones_like(best.scores, dtype=torch.bool)
    mean = best.scores.sum(-1, keepdim=True) / explained.sum(-1, keepdim=True)
    maps = best.scores, mean * explained, (2 * mean - best.scores) * explained
    return tuple(metric(MetricInput(up, replace(best, scores=scores))) for scores in maps)


long_sides = pytest.mark.parametrize(
    "of", [linear.image_side(), linear.text_side(((3, 1, 4, 1, 5), (2, 6, 7, 3)))], ids=["image", "text"]
)


def nothing(of: Side) -> torch.Tensor:
    """Return the share of the start token of a caption in a positive linear score."""
    return (of.value() - exact(of).scores.sum(-1)) * of.value().sign()
