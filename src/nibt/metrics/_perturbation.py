"""The base class of metrics that remove parts of the input."""

from dataclasses import dataclass, field

from nibt.core.perturbation import check_hide
from nibt.metrics.base import Metric
from nibt.options import Seed


@dataclass(frozen=True)
class PerturbationMetric(Metric):
    """Base class of metrics that remove parts of the input.

    Args:
        hide: What replaces parts of an image: ``mean``, ``blur`` or ``noise``.
        seed: The seed of random draws.

    """

    hide: str = field(default="mean", kw_only=True)
    seed: Seed = field(default=0, kw_only=True)

    def __post_init__(self) -> None:
        """Check the options."""
        super().__post_init__()
        check_hide(self.hide)
