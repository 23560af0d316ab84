"""The base class of metrics that remove parts of the input."""

from dataclasses import dataclass, field
from typing import Annotated

from nibt.core.perturbation import HIDES
from nibt.metrics.base import Metric
from nibt.options import OneOf, Seed


@dataclass(frozen=True)
class PerturbationMetric(Metric):
    """Base class of metrics that remove parts of the input.

    Args:
        hide: What replaces parts of an image: ``mean``, ``blur`` or ``noise``.
        seed: The seed of random draws.

    """

    hide: Annotated[str, OneOf(HIDES)] = field(default="mean", kw_only=True)
    seed: Seed = field(default=0, kw_only=True)
