"""Tests of ``nibt.core.side``."""

import torch

from nibt.core.side import Side
from tests import tiny


def test_side_fits_as_many_states_as_the_memory_holds() -> None:
    """The memory holds as many states as it has room for all numbers that the remaining blocks keep."""
    model = tiny.model("clip")
    trace = model.text.trace(model.text.prepare(["cat"]))
    hidden = trace.cut(1).hidden
    numbers = hidden.numel() * (model.text.depth - 1) * 24
    assert Side(model, trace, torch.sum, memory=10 * 4 * numbers / 2**20).at_once(1, hidden) == 10
    assert Side(model, trace, torch.sum, memory=1e-9).at_once(1, hidden) == 1
    assert Side(model, trace, torch.sum).at_once(1, hidden) is None
