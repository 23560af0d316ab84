"""The base class of methods with layers, and checks and means that methods with a path or several layers share."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch

from nibt.core.side import Side
from nibt.data.units import special_token_share
from nibt.errors import Unsupported
from nibt.methods.base import Method, whole_layers
from nibt.results.attribution import Attribution, PathSummary
from nibt.types import PerToken


@dataclass(frozen=True)
class LayerMethod(Method):
    """Base class of methods that explain layers.

    Args:
        layer: One layer or several, whose maps are averaged.

    """

    layer: tuple[int, ...]

    def __post_init__(self) -> None:
        object.__setattr__(self, "layer", whole_layers(self.layer))
        super().__post_init__()


def average_layers(
    side: Side, layers: tuple[int, ...], maps: Sequence[PerToken], summaries: Sequence[PathSummary] = ()
) -> Attribution:
    """Compute the mean of the maps of several layers."""
    units = side.cut(layers[0]).units
    if any(scores.shape != maps[0].shape for scores in maps):
        raise Unsupported(
            f"layers {layers} have different grids, so their maps cannot be averaged: choose layers with the same grid"
        )
    scores = torch.stack(list(maps)).mean(0)
    return Attribution(
        units.keep(scores),
        units,
        special_token_share(scores, units),
        PathSummary.mean(summaries) if summaries else None,
    )
