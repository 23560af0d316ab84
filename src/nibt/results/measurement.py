"""One measured number."""

from dataclasses import dataclass, field

from nibt.types import Modality


@dataclass(frozen=True)
class Measurement:
    """The value of a metric for one pair and one side.

    Attributes:
        item: The position of the pair among those of the call, from 0.
        side: The side whose map was measured.
        metric: The name of the metric.
        value: The value; NaN if the metric is not defined for this pair.
        curve: The curve whose area the value is, for metrics that have one.
        label: What tells the metric from others of the same name, such as its options; else its name.
        seconds: What the explanation of this side took, without the metric.

    """

    item: int
    side: Modality
    metric: str
    value: float
    curve: tuple[float, ...] = ()
    label: str = ""
    seconds: float = field(default=float("nan"), compare=False)
