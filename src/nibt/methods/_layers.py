"""What methods share that narrow along a path, or average the maps of several layers."""

from collections.abc import Sequence

import torch

from nibt.core.quadrature import nodes
from nibt.core.side import Side
from nibt.data.units import special_share
from nibt.errors import BadOption, Unsupported
from nibt.results.attribution import Attribution, PathSummary
from nibt.types import PerExample, PerToken


def check_path(baseline: str, quadrature: str, steps: int, floor: float) -> None:
    """Whether a path can be walked.

    Raises:
        BadOption: There is no such baseline or rule, or one does not go with the other.

    """
    nodes(quadrature, steps, floor)
    if baseline.partition(":")[0] not in ("zero", "blank", "mean"):
        raise BadOption(f"baseline must be zero, blank, mean or mean:FILE (got {baseline!r})")
    if quadrature == "geometric" and baseline != "zero":
        raise BadOption(f"the rule geometric serves the baseline zero only (got {baseline!r}); use gauss")


def averaged(
    side: Side, layers: tuple[int, ...], maps: Sequence[PerToken], told: Sequence[PathSummary] = ()
) -> Attribution:
    """The mean of the maps of several layers.

    Raises:
        Unsupported: The layers have different grids.

    """
    units = side.cut(layers[0]).units
    if any(scores.shape != maps[0].shape for scores in maps):
        raise Unsupported(f"layers {layers} have different grids, so their maps cannot be averaged")
    scores = torch.stack(list(maps)).mean(0)
    return Attribution(units.keep(scores), units, special_share(scores, units), _mean(told) if told else None)


def _mean(parts: Sequence[PathSummary]) -> PathSummary:
    """One narrowing for several layers."""
    if len(parts) == 1:
        return parts[0]

    def mean(name: str) -> PerExample:
        return torch.stack([getattr(part, name) for part in parts]).mean(0)

    first, layers = parts[0], tuple(layer for part in parts for layer in part.layers)
    most = torch.stack([part.steps for part in parts]).amax(0)
    return PathSummary(
        first.baseline,
        first.quadrature,
        layers,
        most,
        first.at_input,
        mean("at_baseline"),
        mean("sum"),
        first.tolerance,
    )
