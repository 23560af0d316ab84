"""Tests of ``nibt.core.quadrature``."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from nibt.core.path_derivatives import jvp_at, normalized, part_vectors_at, vjp_at
from nibt.core.quadrature import nodes
from nibt.core.side import AT_ONCE, Side
from nibt.data.units import Grid
from nibt.methods._path_vectors import PathVectors, scores
from nibt.methods.nib import NIB
from nibt.models._inputs import Cut
from tests import tiny
from tests.engine.cuts import change, cut_of, shares
from tests.suites import few

KINDS = sorted(tiny.KINDS)


@pytest.mark.parametrize("modality", ["image", "text"])
@pytest.mark.parametrize("kind", few(KINDS, ["clip", "mt5"]))
def test_derivatives_along_directions_agree_with_gradients_on_every_family(kind: str, modality: str) -> None:
    cut, start = cut_of(tiny.model(kind), modality)
    path = nodes("gauss", 2)
    chosen = slice(0, None, max(1, cut.hidden.shape[1] // 8))  # all rows of a large feature map would take long
    forward = jvp_at(cut, start, path.positions, shares(cut, start)[chosen])
    vectors = F.normalize(torch.randn(2, 1, forward.shape[-1], generator=torch.Generator().manual_seed(0)), dim=-1)
    backward = vjp_at(cut, start, path.positions, vectors)[..., chosen]
    expected = torch.einsum("ntbd,vbd->nvbt", forward, vectors)
    torch.testing.assert_close(backward, expected, atol=5e-5 * float(expected.abs().max()), rtol=0)


@pytest.mark.parametrize("modality", ["image", "text"])
@pytest.mark.parametrize("kind", few(["clip", "siglip", "own vit", "coca", "bert", "efficientnet"], ["clip", "bert"]))
def test_contributions_sum_to_the_change_of_the_embedding(kind: str, modality: str) -> None:
    cut, start = cut_of(tiny.model(kind), modality)
    path = nodes("gauss", 64)
    moved = change(cut, start)
    vectors = path.integral(
        part_vectors_at(cut, start, path.positions, torch.eye(cut.hidden.shape[1]), moved.shape[-1])
    )
    torch.testing.assert_close(vectors.sum(0), moved, atol=2e-3, rtol=0)


def test_integrals_are_independent_of_the_batch_size(monkeypatch: pytest.MonkeyPatch) -> None:
    cut, start = cut_of(tiny.model("clip"), "image")
    path, ways = nodes("gauss", 3), shares(*cut_of(tiny.model("clip"), "image"))
    forward = jvp_at(cut, start, path.positions, ways)
    many = ways.repeat(AT_ONCE, 1, 1, 1)[: 2 * AT_ONCE + 1]  # more than go together on a processor
    together = forward.repeat(1, AT_ONCE, 1, 1)[:, : len(many)]
    torch.testing.assert_close(jvp_at(cut, start, path.positions, many), together, atol=1e-6, rtol=0)
    backward = vjp_at(cut, start, path.positions, together[0, :3])
    for module in ("path_derivatives", "side"):
        monkeypatch.setattr(f"nibt.core.{module}.BUDGET", 1)  # so that each state goes alone
    torch.testing.assert_close(jvp_at(cut, start, path.positions, ways), forward, atol=1e-6, rtol=0)
    torch.testing.assert_close(vjp_at(cut, start, path.positions, together[0, :3]), backward, atol=1e-6, rtol=0)


def test_rows_agree_in_both_modes() -> None:
    """More parts than numbers of the embedding take a gradient for each number, fewer a derivative for each part."""
    cut, start = cut_of(tiny.model("clip"), "image")
    path, count = nodes("gauss", 3), cut.hidden.shape[1]
    dim = cut.rest(cut.hidden[None]).shape[-1]
    few = torch.eye(count)[:2]
    many = few.repeat(dim, 1)
    actual, expected = (part_vectors_at(cut, start, path.positions, parts, dim) for parts in (many, few))
    torch.testing.assert_close(actual[:, :2], expected, atol=1e-6, rtol=1e-4)


class Bilinear(nn.Module):
    """A tail with a known embedding: the sum of squares of each channel over the rows, and a constant."""

    def forward(self, states: torch.Tensor) -> torch.Tensor:
        return torch.cat([states.square().sum(-2), torch.ones_like(states[..., :1, 0])], -1)


def test_rows_of_a_known_net_equal_finite_differences() -> None:
    hidden = torch.tensor([[[1.0, 2.0], [0.5, -1.0], [2.0, 0.0]]])
    net = Cut(hidden, Grid(1, 3), lambda states: Bilinear()(states.flatten(0, 1)).unflatten(0, states.shape[:2]))
    cut = normalized(net)
    start = torch.full_like(hidden, 0.25)
    path = nodes("gauss", 40)
    actual = path.integral(part_vectors_at(cut, start, path.positions, torch.eye(3), 3))[:, 0]
    width, steps = 1e-3, 400
    expected = torch.zeros(3, 3, dtype=torch.float64)
    for step in range(steps):
        state = (start + (step + 0.5) / steps * (hidden - start)).double()
        for row in range(3):
            move = torch.zeros_like(state)
            move[:, row] = (hidden - start)[:, row].double()
            ends = torch.stack([state + width * move, state - width * move])
            after, before = F.normalize(Bilinear()(ends), dim=-1)[:, 0]
            expected[row] += (after - before) / (2 * width * steps)
    torch.testing.assert_close(actual.double(), expected, atol=1e-5, rtol=1e-4)


def test_scores_choose_the_steps_of_each_word() -> None:
    """The map of a word depends on the sum of the strongest word, and on no other word."""
    model = tiny.model("clip")
    side = Side(model, model.image.trace(model.image.prepare([tiny.image()])), lambda embedding: embedding.norm(dim=-1))
    vectors = NIB((1,), steps=1, tolerance=0.003).linear_vectors(side)
    assert isinstance(vectors, PathVectors)
    ((layer,),) = vectors.paths
    aim = F.normalize(torch.randn(6, len(layer.change), generator=torch.Generator().manual_seed(0)), dim=-1)
    aim = aim * torch.logspace(0, -4, 6)[:, None]
    most = (aim @ layer.change).abs().max()
    together = scores(layer, aim, most.expand(6))
    assert len(set(together.steps.tolist())) > 1, "all words have the same number of steps"
    for vector, actual, steps in zip(aim, together.values, together.steps, strict=True):
        alone = scores(layer, vector[None], most[None])
        assert alone.steps[0] == steps
        torch.testing.assert_close(alone.values[0], actual, atol=1e-6 * float(together.values.abs().max()), rtol=1e-4)
