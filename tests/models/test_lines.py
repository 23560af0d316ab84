"""Tests of ``nibt.models._lines``: blocks on straight lines of states equal blocks at each of the states."""

from functools import partial
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import nibt
from nibt.core.side import Side
from nibt.methods import _path
from nibt.methods._path import PathStage, products
from nibt.methods.nib import NIB
from nibt.models._lines import OnTrack, Track, attended
from tests import tiny
from tests.helpers import assert_close, make_side
from tests.suites import few

POSITIONS = (0.0, 0.1, 0.6, 1.0)


def drawn(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def stage_of_block(of: Side, number: int) -> PathStage:
    """The stage of a block whose class or end token is weighted at random."""
    weights = drawn(len(of.inputs), of.cut(number).hidden.shape[2], seed=number)
    return PathStage.of_block(of, number, weights, 1, "blank")


def values(stage: PathStage, rows: int = 1) -> Tensor:
    return NIB(layer=(0,))._values_at(stage, products, POSITIONS, rows)


def read(stream: Tensor | OnTrack, norm: nn.Module, maps: tuple[nn.Linear, nn.Linear], mask: Tensor | None) -> Tensor:
    """What one query of each state takes up."""
    query = drawn(1, 2, 1, 3, seed=6).expand(len(stream), -1, -1, -1)
    taken = attended(stream, norm, query, maps, mask, scale=2.0)
    assert taken is not None
    return taken


@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize("items", ["shared start", "a start for each"])
def test_what_queries_take_up_of_lines_is_that_of_their_states(items: str, masked: bool) -> None:
    """It equals PyTorch's attention to the norm and the maps of the states, and so do its derivatives."""
    norm = nn.LayerNorm(8)
    norm.weight.data, norm.bias.data = drawn(8, seed=1), drawn(8, seed=2)
    maps = nn.Linear(8, 6), nn.Linear(8, 6)
    start = drawn(1 if items == "shared start" else 3, 5, 8, seed=3)
    change = drawn(3, 5, 8, seed=4)
    mask = torch.tensor([True, True, True, False, True]).expand(3 * len(POSITIONS), 1, 1, -1) if masked else None
    states = Track(start, change, torch.tensor([[0], [2], [4]])).at(POSITIONS)
    actual = read(states, norm, maps, mask)

    whole = torch.cat([start + position * change for position in POSITIONS]).requires_grad_()
    wanted = read(whole, norm, maps, mask)
    assert_close(actual, wanted, 1e-5)

    pull = drawn(*wanted.shape, seed=5)
    (gradient,) = torch.autograd.grad(wanted, whole, pull)
    of_shares, of_rows = torch.autograd.grad(actual, [states.shares, states.rows], pull)
    along = (gradient * change.repeat(len(POSITIONS), 1, 1)).sum(-1)
    assert_close(states.derivatives(of_shares, of_rows), along, 1e-5)
    assert_close(of_rows, gradient.take_along_dim(states.places[..., None], 1), 1e-5)


@pytest.mark.parametrize(
    ("kind", "side"),
    few(
        [("clip", "image"), ("clip", "text"), ("own vit", "image"), ("own vit", "text"), ("timm vit", "image")],
        [("clip", "image"), ("own vit", "text")],
    ),
)
def test_blocks_on_lines_equal_blocks_at_each_state(kind: str, side: str, monkeypatch: pytest.MonkeyPatch) -> None:
    of = make_side(tiny.model(kind), side)
    stages = [stage_of_block(of, number) for number in range(of.tower.depth)]
    assert all(_path._products_on_lines(stage, POSITIONS) is not None for stage in stages)
    actual = [values(stage) for stage in stages]

    monkeypatch.setattr(_path, "_products_on_lines", lambda stage, positions: None)
    for on_lines, stage in zip(actual, stages, strict=True):
        assert_close(on_lines, values(stage), share=1e-5, least=1e-6)


def test_work_does_not_grow_with_steps() -> None:
    """Keys of the patches are computed at the ends of the path only."""
    of = make_side(tiny.model("clip"), "image")
    block: Any = of.tower.blocks[1]
    track = stage_of_block(of, 1).lines
    rows: list[int] = []

    def counted(states: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
        rows.append(states[..., 0].numel())
        return F.linear(states, weight, bias)

    key, value = block.self_attn.k_proj, block.self_attn.v_proj
    maps = partial(counted, weight=key.weight, bias=key.bias), value
    for _ in range(2):
        states = track.at(POSITIONS)
        query = torch.zeros(len(states), block.self_attn.num_heads, 1, block.self_attn.head_dim)
        attended(states, block.layer_norm1, query, maps)

    tokens = of.cut(1).hidden.shape[1]
    at_ends = 2 + tokens + len(of.inputs) * tokens  # two biases, the blank image and all images
    at_positions = 2 * len(POSITIONS) * len(of.inputs)  # the class token
    assert sum(rows) == at_ends + at_positions


@pytest.mark.parametrize("part", ["norm", "map", "class of the norm", "hook"])
def test_other_norms_and_maps_are_run_as_they_are(part: str) -> None:
    model = tiny.fresh("clip")
    block: Any = model.image.blocks[1]
    before = nibt.explain(model, tiny.image(), "a cat").grid
    norm, linear = block.layer_norm1, block.self_attn.k_proj
    if part == "norm":
        norm.forward = lambda states: torch.tanh(states)
    elif part == "map":
        linear.forward = lambda states: torch.tanh(states)
    elif part == "class of the norm":

        class Tanh(nn.LayerNorm):
            def forward(self, input: Tensor) -> Tensor:
                return torch.tanh(input)

        block.layer_norm1 = Tanh(norm.normalized_shape).eval()
    else:
        linear.register_forward_hook(lambda module, args, out: torch.tanh(out))

    of = make_side(model, "image")
    assert _path._products_on_lines(stage_of_block(of, 1), POSITIONS) is None
    explanation = nibt.explain(model, tiny.image(), "a cat", "nib", steps=64)
    assert not torch.allclose(explanation.grid, before)
    assert abs(float(explanation.image.path.gap)) < 0.02 * abs(explanation.similarity) + 0.01
