"""Metrics that hide parts of the input, and how they do."""

from dataclasses import dataclass, field

from nibt.core.perturbation import check_hide
from nibt.errors import BadOption
from nibt.metrics.base import Metric


@dataclass(frozen=True)
class PerturbationMetric(Metric):
    """``hide``: what an image's parts are hidden by, ``mean`` (the mean colour), ``blur`` or ``noise``; words fade
    toward the padding token's embedding whatever it says. ``seed``: of what is drawn at random, for each item.
    """

    hide: str = field(default="mean", kw_only=True)
    seed: int = field(default=0, kw_only=True)

    def __post_init__(self) -> None:
        """Refuse what cannot be.

        Raises:
            BadOption: There is no such way to hide, or the seed is negative.

        """
        check_hide(self.hide)
        if self.seed < 0:
            raise BadOption(f"seed must be at least 0 (got {self.seed})")
