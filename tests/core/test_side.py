"""Tests of ``nibt.core.side``."""

from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from nibt.core.quadrature import nodes
from nibt.core.side import Side
from nibt.data.units import Grid
from nibt.errors import BadOption, WrongBaseline
from nibt.models._inputs import Cut
from nibt.models._mean_states import mean_states
from tests import tiny
from tests.helpers import at_end, both_sides, make_side, varied_kinds


def test_side_fits_as_many_states_as_the_memory_holds() -> None:
    """The memory holds as many states as it has room for all numbers that the remaining blocks keep."""
    model = tiny.model("clip")
    trace = model.text.trace(model.text.prepare(["cat"]))
    hidden = trace.cut(1).hidden
    numbers = hidden.numel() * (model.text.depth - 1) * 24
    assert Side(model, trace, torch.sum, memory=10 * 4 * numbers / 2**20).at_once(1, hidden) == 10
    assert Side(model, trace, torch.sum, memory=1e-9).at_once(1, hidden) == 1
    assert Side(model, trace, torch.sum).at_once(1, hidden) is None


def test_side_fits_more_states_where_fewer_blocks_or_bytes_remain() -> None:
    model = tiny.model("clip")
    trace = model.text.trace(model.text.prepare(["cat"]))
    depth, hidden = model.text.depth, trace.cut(1).hidden
    memory = 60 * 4 * 24 * hidden.numel() / 2**20  # 60 states that pass one block in single precision
    side = Side(model, trace, torch.sum, memory=memory)
    for layer, blocks in ((None, depth), (0, depth), (2, depth - 2), (depth - 1, 1), (depth, 1)):
        assert side.at_once(layer, hidden) == 60 // blocks
    assert side.at_once(depth, hidden.half()) == 120
    assert side.at_once(depth, hidden.expand(5, -1, -1)) == 60, "the number of states, over all examples"


def test_mean_gradient_of_a_cubic_is_known() -> None:
    start, end = torch.randn(2, 2, 3, 4, generator=torch.Generator().manual_seed(0)).unbind()
    cut = Cut(end, Grid(1, 3), lambda states: states)
    side: Any = SimpleNamespace(score=lambda embeddings: embeddings.pow(3).sum((-2, -1)))  # all that is asked of a side
    path = nodes("gauss", 3)
    actual = path.integral(
        Side.gradient(side, cut, start + torch.tensor(path.positions)[:, None, None, None] * (end - start))
    )
    by_hand = start.square() + start * end + end.square()  # the mean of 3 z^2 along the line
    torch.testing.assert_close(actual, by_hand)


@both_sides
@varied_kinds
def test_side_has_the_score_of_a_blank_input_without_a_forward_pass(kind: str, modality: str) -> None:
    """A tower caches the states of blank inputs, so the low end of a path toward ``blank`` costs no blocks."""
    of = make_side(tiny.model(kind), modality)
    layer = of.tower.depth - 1
    cut = of.cut(layer)
    state = of.baseline("blank", layer, cut.hidden)
    passes: list[int] = []
    hooks = [block.register_forward_hook(lambda *_: passes.append(1)) for block in of.tower.blocks]
    try:
        cached = at_end(of, "blank", layer, cut, state)
        assert not passes
        replayed = at_end(of, "zero", layer, cut, state)  # of any other baseline, the state is replayed
    finally:
        for hook in hooks:
            hook.remove()
    torch.testing.assert_close(cached, replayed, atol=1e-6, rtol=1e-4)
    stem = of.stem()
    at_stem = at_end(of, "blank", None, stem, of.baseline("blank", None, stem.hidden))
    torch.testing.assert_close(at_stem, cached, atol=1e-6, rtol=1e-4)


@both_sides
def test_side_computes_the_low_end_of_any_state(modality: str) -> None:
    of = make_side(tiny.model("clip"), modality)
    cut = of.cut(1)
    torch.testing.assert_close(at_end(of, "zero", 1, cut, cut.hidden), of.value(), atol=1e-6, rtol=1e-5)
    assert not at_end(of, "zero", 1, cut, of.baseline("zero", 1, cut.hidden)).requires_grad
    assert not of.baseline("zero", 1, cut.hidden).any()


def test_side_rejects_bad_baselines() -> None:
    of = make_side(tiny.model("clip"), "image")
    hidden = of.cut(1).hidden
    with pytest.raises(BadOption, match=r"baseline must be zero, blank, mean, mean:FILE or against \(got 'black'\)"):
        of.baseline("black", 1, hidden)
    for name in ("mean", "mean:states"):
        with pytest.raises(BadOption, match=rf"zero or blank at the first tokens.*\(got '{name}'\)"):
            of.baseline(name, None, hidden)
    with pytest.raises(WrongBaseline, match="ships no mean states: run nibt calibrate"):
        of.baseline("mean", 1, hidden)
    with pytest.raises(WrongBaseline, match="ships no mean states"):
        mean_states(replace(of.model, folder=None))
