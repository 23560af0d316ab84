"""What is computed once for all methods that explain the same batch.

A benchmark explains each batch with many methods. The prepared inputs, the traces of both towers, the ground truth, and
the scores of the whole and of the empty input depend on the pairs and the model only, so all methods share them.
"""

from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass
from typing import Any

from nibt.models._trace import Trace
from nibt.models.base import Model


@dataclass(frozen=True)
class TimedTrace:
    """A trace with hidden states from the layer ``lowest`` on, and how long it took to compute.

    The time counts for each method that uses the trace, so that it does not depend on which method came first.
    """

    trace: Trace
    lowest: int
    seconds: float


class BatchCache:
    """Values that depend on the model and on the pairs of a batch, but not on the method.

    Whoever explains the same pairs with several methods makes a cache, passes it to each call, and drops it together
    with the pairs. It has one trace per batch and side, so it needs the memory of the traces of the pairs.
    """

    def __init__(self, model: Model) -> None:
        self.model = model
        self._values: dict[tuple, Any] = {}
        self._pairs: dict[int, Any] = {}

    def once(self, pairs: Sequence[Any], key: Hashable, compute: Callable[[], Any]) -> Any:
        """Return the value of a batch, or that of the model without pairs; the first call with this key computes it."""
        batch_key = self._key(pairs, key)
        if batch_key not in self._values:
            self._values[batch_key] = compute()
        return self._values[batch_key]

    def trace(self, pairs: Sequence[Any], side: Hashable, lowest: int) -> TimedTrace | None:
        """Return the trace of one side of a batch from a layer on, if one with as many layers is kept.

        It is made from that trace, with the same bits.
        """
        kept: TimedTrace | None = self._values.get(self._key(pairs, ("trace", side)))
        if kept is None or kept.lowest > lowest:
            return None
        return TimedTrace(kept.trace.above(lowest), lowest, kept.seconds)

    def keep(self, pairs: Sequence[Any], side: Hashable, timed: TimedTrace) -> None:
        """Keep the trace of one side of a batch, in place of one with fewer layers."""
        self._values[self._key(pairs, ("trace", side))] = timed

    def forget(self, pairs: Sequence[Any]) -> None:
        """Drop all values of a batch, which did not fit into memory."""
        identity = tuple(map(id, pairs))
        self._values = {key: value for key, value in self._values.items() if key[0] != identity}

    def forget_pairs(self) -> None:
        """Drop the values of all batches, and keep those of the model."""
        self._values = {key: value for key, value in self._values.items() if not key[0]}
        self._pairs = {}

    def _key(self, pairs: Sequence[Any], key: Hashable) -> tuple:
        self._pairs |= {id(pair): pair for pair in pairs}  # while they are kept, no other object has their identity
        return tuple(map(id, pairs)), key
