"""Integrals along a path, with more nodes for the items that need them.

The values at a node are computed once for each item: a finer rule keeps the nodes that it shares with the coarser one,
and items that are accurate enough take no part in it. Completeness says only that the *sum* of the scores is right,
which it may be by chance. So an integral is accurate if its sum is complete and the last refinement changed little: the
error of a smooth integrand is about squared if its nodes are doubled, so that a change by the square root of the
tolerance leaves an error of about the tolerance.

A rule of high order stalls where an integrand has a narrow peak. An item whose sum the finest rule leaves incomplete
therefore gets a last rule of another form, and keeps the result with the smaller gap.
"""

from collections.abc import Callable, Iterable, Sequence

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from nibt.core.quadrature import Nodes
from nibt.types import PerExample

Rows = Int[Tensor, " row"]
"""The numbers of the items that are computed."""
ValuesAt = Callable[[Sequence[float], Rows], Float[Tensor, "node row part *dim"]]
"""Computes the integrand of some items at some positions: a score or a vector for each part."""
Gaps = Callable[[Float[Tensor, "row part *dim"], Rows], Float[Tensor, " row"]]
"""Returns how much the sum over the parts of each item lacks, in units of what its tolerance allows."""


def integrate(
    paths: Iterable[Nodes], values_at: ValuesAt, rows: Rows, gaps: Gaps, tolerance: float | None
) -> tuple[Float[Tensor, "row part *dim"], PerExample]:
    """Compute an integral for each item, with the finer of several rules for items that are not accurate enough."""
    computed: dict[float, Tensor] = {}
    result = steps = before = None
    for path in paths:
        second_try = len(path.positions) < len(computed)
        if second_try and before is not None:
            incomplete = gaps(before, rows) > 1
            if not incomplete.any():
                break
            rows, before = rows[incomplete], before[incomplete]
        new = [position for position in path.positions if position not in computed]
        computed.update(zip(new, values_at(new, rows), strict=True))
        computed = {position: computed[position] for position in path.positions}
        after = path.integral(torch.stack(list(computed.values())))
        if result is None or steps is None:
            result, steps = after.clone(), after.new_zeros(len(rows), dtype=torch.float32)
        if second_try and before is not None:
            better = gaps(after, rows) < gaps(before, rows)
            rows, after = rows[better], after[better]
        result[rows], steps[rows] = after, float(len(computed))
        if tolerance is None or second_try:
            break
        rough = (gaps(after, rows) > 1) | (before is None or _moved(before, after, tolerance))
        if not rough.any():
            break
        rows, before = rows[rough], after[rough]
        computed = {position: values[rough] for position, values in computed.items()}
    assert result is not None
    assert steps is not None
    return result, steps


def _moved(before: Tensor, after: Tensor, tolerance: float) -> Bool[Tensor, " row"]:
    """Return for which items a part changed by more than the root of the tolerance, relative to the largest part."""
    # the error of a smooth integrand is about squared if its nodes are doubled
    change, size = (
        (values.abs() if values.ndim == 2 else values.norm(dim=-1)).amax(1) for values in (after - before, after)
    )
    return change > tolerance**0.5 * size
