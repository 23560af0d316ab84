"""One measured number."""

from dataclasses import dataclass

from nibt.types import Modality


@dataclass(frozen=True)
class Measurement:
    """The value of a metric on one side of a pair; ``item`` is the pair's number. NaN: it has no meaning there.

    ``curve`` is what the value is the area under, where there is such a thing.
    """

    item: int
    side: Modality
    metric: str
    value: float
    curve: tuple[float, ...] = ()
