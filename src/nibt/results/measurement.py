"""Measurements of metrics."""

from dataclasses import dataclass, field

from nibt.types import MeasuredSide


@dataclass(frozen=True)
class Measurement:
    """The value of a metric for one side of a pair, or for its regions.

    Attributes:
        item: The position of the pair in the call, from 0.
        side: The side whose map was measured, or ``regions``.
        metric: The name of the metric.
        value: The value; NaN if the metric is not defined for this pair.
        curve: The curve whose area is the value, or what the number of a data set needs of the pair, such as counts;
            empty for other metrics.
        label: The name of the metric, with the options that distinguish it from others of the same name.
        seconds: The time to explain this side, or to compute the regions, without the metric.
    """

    item: int
    side: MeasuredSide
    metric: str
    value: float
    curve: tuple[float, ...] = ()
    label: str = ""
    seconds: float = field(default=float("nan"), compare=False)
