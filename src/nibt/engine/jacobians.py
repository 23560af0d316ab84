"""Contributions of tokens to the unit embedding of a tower, as vectors, by narrowing a hidden layer.

With z(l) = r + l (h - r), e(z) the unit embedding and J(z) its derivative, the contribution of a token row t is the
vector P[t] = integral of J(z(l)) (h - r)_t over l. The P[t] of all rows add up to e(h) - e(r), and P[t] . v is the
score that NIB gives the row for a caption (or an image) with the unit embedding v. Two ways lead there: forward, all
directions at once (``jvp_integral``: a forward pass for each node, and about one more for each direction and node), and
backward, a vector v at a time (``vjp_integral``: a forward pass for each node, and a backward pass for each vector and
node).
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float
from torch import Tensor

from nibt.core.quadrature import BUDGET, Nodes, chunks, nodes, refined
from nibt.core.side import Side
from nibt.methods.nib import NIB
from nibt.models._attention import AttentionRecorder
from nibt.models._trace import Cut
from nibt.results.attribution import PathSummary, allowed
from nibt.types import Hidden, PerExample, States

Directions = Float[Tensor, "direction batch token width"]
Vectors = Float[Tensor, "direction batch dim"]


def jvp_integral(cut: Cut, start: Hidden, path: Nodes, directions: Directions, at_once: int | None = None) -> Vectors:
    """The integral of J(z) d along the path from ``start`` to the cut's state, for each direction d: forward mode.

    The states themselves go through once for all directions, where torch can do that. The fused attention kernels have
    no forward mode, so attention is computed openly. ``at_once``: how many moved states go through together at most.
    """
    most = at_once or max(1, BUDGET // 2 // cut.hidden.numel())  # more is slower on a processor
    count, step = len(path.positions), max(1, most // len(directions))
    total = cut.hidden.new_zeros(())
    for part in (slice(first, min(first + step, count)) for first in range(0, count, step)):
        states = _on_path(cut, start, path, part)
        moved = partial(_moved, cut, states, start.new_tensor(path.weights[part])[:, None, None])
        with torch.no_grad(), AttentionRecorder(keep=False):
            total = total + (
                torch.func.vmap(moved, chunk_size=most)(directions)
                if cut.mapped
                else torch.stack([moved(direction) for direction in directions])
            )
    return total


def _moved(
    cut: Cut, states: States, weights: Float[Tensor, "node 1 1"], direction: Hidden
) -> Float[Tensor, "batch dim"]:
    """How the unit embeddings of some states move in one direction, added up with their weights."""
    tangent = (direction.expand_as(states),)
    pushed_forward = torch.func.jvp(lambda moving: F.normalize(cut.rest(moving), dim=-1), (states,), tangent)
    return (weights * pushed_forward[1]).sum(0)


def vjp_integral(
    cut: Cut, start: Hidden, path: Nodes, vectors: Vectors, at_once: int | None = None
) -> Float[Tensor, "direction batch token"]:
    """P[t] . v for each token row and each vector v: a forward pass for each node, a backward pass for each vector."""
    difference = cut.hidden - start
    total = difference.new_zeros(len(vectors), *difference.shape[:2])
    for part in chunks(len(path.positions), cut.hidden, at_once=at_once):
        states = _on_path(cut, start, path, part).requires_grad_()
        weights = start.new_tensor(path.weights[part])[:, None, None, None]
        with torch.enable_grad():
            embedded = F.normalize(cut.rest(states), dim=-1)
        for which, vector in enumerate(vectors):
            (gradient,) = torch.autograd.grad(
                embedded, states, vector.expand_as(embedded), retain_graph=which < len(vectors) - 1
            )
            total[which] += ((weights * gradient).sum(0) * difference).sum(-1)
    return total


def _on_path(cut: Cut, start: Hidden, path: Nodes, part: slice) -> States:
    positions = start.new_tensor(path.positions[part])[:, None, None, None]
    return (start + positions * (cut.hidden - start)).detach()


def rows(cut: Cut, start: Hidden, path: Nodes, spelt: Float[Tensor, "part token"], dim: int) -> Vectors:
    """The sum of P[t] over the rows of each part; ``spelt`` is 1 on the rows of a part.

    An embedding has ``dim`` numbers. By the cheaper of both ways.
    """
    difference = cut.hidden - start
    if len(spelt) <= dim:  # a forward pass for each part, or a backward pass for each number
        return jvp_integral(cut, start, path, spelt.to(difference)[:, None, :, None] * difference)
    basis = torch.eye(dim, device=start.device, dtype=start.dtype)[:, None].expand(-1, len(difference), -1)
    return torch.einsum("dbt,pt->pbd", vjp_integral(cut, start, path, basis), spelt.to(difference))


def parts(groups: Sequence[Sequence[int]], count: int) -> Float[Tensor, "part token"]:
    """A part for each group of the ``count`` rows, and a last one for all rows that are in none."""
    result = torch.zeros(len(groups) + 1, count, dtype=torch.float32, device="cpu")
    for place, group in enumerate(groups):
        result[place, list(group)] = 1
    result[-1] = 1 - result[:-1].sum(0)
    return result


@dataclass(frozen=True)
class LayerPath:
    """The path of a tower from a baseline to the state at a layer.

    Attributes:
        cut: The tower, cut at the layer.
        start: The baseline state.
        change: How far the unit embedding moves on the path, which is what the P[t] of all rows add up to.
        method: The options of NIB.

    """

    cut: Cut
    start: Hidden
    change: Float[Tensor, " dim"]
    method: NIB

    @property
    def rows(self) -> int:
        """The number of rows of a state, special tokens included."""
        return self.cut.hidden.shape[1]

    def paths(self) -> Iterator[Nodes]:
        """The nodes; with a tolerance, more and more of them."""
        return refined(self.method.quadrature, self.method.steps, self.method.floor, self.method.tolerance is not None)

    def allowed(self, change: Tensor) -> Tensor:
        """By how much a sum may miss a change."""
        return allowed(change, self.method.tolerance)


@dataclass(frozen=True)
class PathIntegral:
    """Vectors or scores, one a row, with how many nodes, and whether their sums still miss what is allowed."""

    values: Tensor
    steps: PerExample
    missed: Bool[Tensor, " row"]

    @classmethod
    def mean(cls, each: "Sequence[PathIntegral]") -> "PathIntegral":
        """Over the layers of a method."""
        steps, missed = torch.stack([one.steps for one in each]), torch.stack([one.missed for one in each])
        return cls(torch.stack([one.values for one in each]).mean(0), steps.mean(0), missed.any(0))


def change(layers: Sequence[LayerPath]) -> Float[Tensor, " dim"]:
    """The mean change over the layers of a method."""
    return torch.stack([one.change for one in layers]).mean(0)


def narrowed(side: Side, method: NIB) -> list[LayerPath]:
    """The layers of a method for one example."""
    low = nodes(method.quadrature, method.steps, method.floor).low
    after, layers = F.normalize(side.trace.embedding, dim=-1)[0], []
    for layer in method.layer:
        cut = side.cut(layer)
        start = side.baseline(method.baseline, layer, cut.hidden)
        before = side.end(method.baseline, layer, cut, start + low * (cut.hidden - start))
        layers.append(LayerPath(cut, start, after - F.normalize(before, dim=-1)[0], method))
    return layers


def vectors(of: LayerPath, spelt: Float[Tensor, "part token"]) -> PathIntegral:
    """The sum of P[t] over the rows of each part, part x dim.

    The parts have each row once: with a tolerance there are as many nodes as bring their sum as near to the change of
    the unit embedding, by its length.
    """
    size = of.change.norm()
    for path in of.paths():
        result = rows(of.cut, of.start, path, spelt, len(of.change))[:, 0]
        missed = (result.sum(0) - of.change).norm() > of.allowed(size)
        if not missed:
            break
    return PathIntegral(result, result.new_full((len(spelt),), len(path.positions)), missed.expand(len(spelt)))


def scores(of: LayerPath, aim: Float[Tensor, "vector dim"], most: Float[Tensor, " vector"]) -> PathIntegral:
    """Compute P[t] . v for each vector v: (vector, token).

    With a tolerance, the steps of each vector are doubled until its sum is close enough to ``v . change``, as the
    tolerance allows for changes of the size ``most``. It takes the cheaper way: a backward pass per vector, or the P[t]
    of all rows and a matrix product.
    """
    expected, bound = aim @ of.change, of.allowed(most)
    result, steps = aim.new_zeros(len(aim), of.rows), aim.new_zeros(len(aim))
    missed = torch.ones_like(expected, dtype=torch.bool)
    for path in of.paths():
        if int(missed.sum()) <= min(of.rows, aim.shape[1]):
            result[missed] = vjp_integral(of.cut, of.start, path, aim[missed][:, None])[:, 0]
        else:
            each = torch.eye(of.rows, dtype=aim.dtype, device=aim.device)
            result[missed] = aim[missed] @ rows(of.cut, of.start, path, each, aim.shape[1])[:, 0].T
        steps[missed] = len(path.positions)
        missed = (result.sum(-1) - expected).abs() > bound
        if not missed.any():
            break
    return PathIntegral(result, steps, missed)


def path_summary(
    aim: Float[Tensor, "*aim dim"],
    after: Float[Tensor, " dim"],
    before: Float[Tensor, " dim"],
    total: PerExample,
    baseline: str,
    quadrature: str,
    layers: tuple[int, ...],
    steps: PerExample,
    tolerance: float | None = None,
) -> PathSummary:
    """Summarize the path for the cosine with each unit embedding of ``aim``.

    ``after`` and ``before`` are the unit embeddings at both ends of the path, ``total`` the sums of the scores.
    """
    at_input, at_baseline = aim @ after, aim @ before
    return PathSummary(baseline, quadrature, layers, steps, at_input, at_baseline, total, tolerance)
