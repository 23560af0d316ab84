"""Batches that do not fit into memory are halved, and a warning says so.

The warning goes to the logger ``nibt``. A result does not depend on its batch, up to rounding.
"""

import logging
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, TypeVar

from nibt.models._devices import free_memory, is_out_of_memory

_Result = TypeVar("_Result")


def within_memory(
    batches: Iterable[Sequence[int]], compute: Callable[[Sequence[int]], _Result]
) -> Iterator[tuple[Sequence[int], _Result]]:
    """Compute batches; if memory runs out, go on with half as many items at a time."""
    queue = deque(batches)
    while queue:
        indices = queue.popleft()
        try:
            result = compute(indices)
        except Exception as error:
            halve_batches(error, indices, queue)
        else:
            yield indices, result


def halve_batches(error: Exception, indices: Sequence[int], queue: "deque[Any]") -> None:
    """Put a batch that did not fit into memory back, in halves, and go on with batches of that size."""
    if len(indices) == 1 or not is_out_of_memory(error):
        raise error
    error.with_traceback(None)  # which would keep the tensors in memory
    most, batches = halve(len(indices)), [indices, *queue]
    queue.clear()
    queue.extend(batch[first : first + most] for batch in batches for first in range(0, len(batch), most))


def halve(size: int) -> int:
    """Free memory after a batch of ``size`` did not fit, log a warning, and return the size to go on with."""
    half = size // 2
    free_memory()
    logging.getLogger("nibt").warning(
        "memory ran out for a batch of %d: nibt goes on with batches of %d; set batch_size to at most %d",
        size,
        half,
        half,
    )
    return half
