"""Batches that do not fit into memory are halved, and a warning says so.

The warning goes to the logger ``nibt``. A result does not depend on its batch, up to rounding.
"""

import logging
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import TypeVar

from nibt.models._devices import free_memory, is_out_of_memory

_Result = TypeVar("_Result")


def within_memory(
    batches: Iterable[Sequence[int]], compute: Callable[[Sequence[int]], _Result]
) -> Iterator[tuple[Sequence[int], _Result]]:
    """Compute batches; if memory runs out, go on with half as many items at a time."""
    limit = 0  # no limit
    for batch in batches:
        left = deque([batch])
        while left:
            indices = left.popleft()
            if limit and len(indices) > limit:
                left.extendleft(reversed([indices[first : first + limit] for first in range(0, len(indices), limit)]))
                continue
            try:
                result = compute(indices)
            except Exception as error:
                if len(indices) == 1 or not is_out_of_memory(error):
                    raise
                error.with_traceback(None)  # which would keep the tensors in memory
            else:
                yield indices, result
                continue
            limit = halve(len(indices))
            left.appendleft(indices)


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
