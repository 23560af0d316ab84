"""What a tower's unit embedding does as a hidden layer is narrowed, as vectors and not only as one score.

With z(l) = r + l (h - r), e(z) the unit embedding and J(z) its derivative, the contribution of a token row t is the
vector P[t] = integral of J(z(l)) (h - r)_t over l. The P[t] of all rows add up to e(h) - e(r), and P[t] . v is the
score that NIB gives the row for a caption (or a picture) with the unit embedding v. Two ways lead there: forward, all
directions at once (``pushed``: a forward pass for each node, and about one more for each direction and node), and
backward, a vector v at a time (``pulled``: a forward pass for each node, and a backward pass for each vector and node).
"""

from collections.abc import Callable, Sequence
from functools import partial

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from nibt.attribution import Narrowing
from nibt.methods.nib import NIB
from nibt.models.base_attention import Watching
from nibt.models.base_trace import Cut
from nibt.paths import BUDGET, Nodes, chunks, nodes
from nibt.side import Side
from nibt.types import Hidden, PerExample, States

Directions = Float[Tensor, "direction batch token width"]
Vectors = Float[Tensor, "direction batch dim"]


def pushed(cut: Cut, start: Hidden, path: Nodes, directions: Directions, at_once: int | None = None) -> Vectors:
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
        with torch.no_grad(), Watching(keep=False):
            total = total + (
                torch.func.vmap(moved, chunk_size=most)(directions) if cut.mapped
                else torch.stack([moved(direction) for direction in directions])
            )  # fmt: skip
    return total


def _moved(
    cut: Cut, states: States, weights: Float[Tensor, "node 1 1"], direction: Hidden
) -> Float[Tensor, "batch dim"]:
    """How the unit embeddings of some states move in one direction, added up with their weights."""
    there = (direction.expand_as(states),)
    pushed_forward = torch.func.jvp(lambda moving: F.normalize(cut.rest(moving), dim=-1), (states,), there)
    return (weights * pushed_forward[1]).sum(0)


def pulled(
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
    """The sum of P[t] over the rows of each part; ``spelt`` is 1 on the rows of a part. An embedding has ``dim``
    numbers. By the cheaper of both ways.
    """
    difference = cut.hidden - start
    if len(spelt) <= dim:  # a forward pass for each part, or a backward pass for each number
        return pushed(cut, start, path, spelt.to(difference)[:, None, :, None] * difference)
    basis = torch.eye(dim, device=start.device, dtype=start.dtype)[:, None].expand(-1, len(difference), -1)
    return torch.einsum("dbt,pt->pbd", pulled(cut, start, path, basis), spelt.to(difference))


def parts(groups: Sequence[Sequence[int]], count: int) -> Float[Tensor, "part token"]:
    """A part for each group of the ``count`` rows, and a last one for all rows that are in none."""
    found = torch.zeros(len(groups) + 1, count)
    for place, group in enumerate(groups):
        found[place, list(group)] = 1
    found[-1] = 1 - found[:-1].sum(0)
    return found


def over_layers(
    side: Side, method: NIB, found: Callable[[Cut, Hidden, Nodes], Tensor]
) -> tuple[Tensor, Float[Tensor, " dim"]]:
    """The means, over the layers of a method, of what is found there and of the change of the unit embedding: what all
    rows together add up to.
    """
    path = nodes(method.rule, method.steps, method.floor)
    answers, befores = [], []
    for layer in method.layer:
        cut = side.cut(layer)
        start = side.reference(method.reference, layer, cut.hidden)
        answers.append(found(cut, start, path))
        before = side.end(method.reference, layer, cut, start + path.low * (cut.hidden - start))
        befores.append(F.normalize(before, dim=-1)[0])
    change = F.normalize(side.trace.embedding, dim=-1)[0] - torch.stack(befores).mean(0)
    return torch.stack(answers).mean(0), change


def towards(
    aim: Float[Tensor, "*aim dim"], after: Float[Tensor, " dim"], before: Float[Tensor, " dim"],
    total: PerExample, reference: str, rule: str, layers: tuple[int, ...], steps: int,
) -> Narrowing:  # fmt: skip
    """What narrowing did to the cosine with each unit embedding, from the unit embeddings at both ends of the path and
    the sum of the scores.
    """
    at_input, at_reference = aim @ after, aim @ before
    gap = (total - (at_input - at_reference)).abs()
    return Narrowing(reference, rule, layers, torch.full_like(total, steps), at_input, at_reference, total, gap)
