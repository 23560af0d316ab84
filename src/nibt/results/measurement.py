"""Measurements of metrics."""

from dataclasses import dataclass, field

from nibt.types import Modality


@dataclass(frozen=True)
class Measurement:
    """The value of a metric for one pair and one side.

    Attributes:
        item: The position of the pair in the call, from 0.
        side: The side whose map was measured.
        metric: The name of the metric.
        value: The value; NaN if the metric is not defined for this pair.
        curve: The curve whose area is the value, for metrics that have a curve.
        label: The name of the metric, with the options that distinguish it from others of the same name.
        seconds: The time to explain this side, without the metric.

    """

    item: int
    side: Modality
    metric: str
    value: float
    curve: tuple[float, ...] = ()
    label: str = ""
    seconds: float = field(default=float("nan"), compare=False)


@dataclass(frozen=True)
class TableMeasurement:
    """The value of a table metric for one pair.

    Attributes:
        item: The position of the pair in the call, from 0.
        metric: The name of the metric.
        value: The value; NaN if the metric is not defined for this pair.
        label: The name of the metric, with the options that distinguish it from others of the same name.
        seconds: The time to compute the table, without the metric.

    """

    item: int
    metric: str
    value: float
    label: str = ""
    seconds: float = field(default=float("nan"), compare=False)
