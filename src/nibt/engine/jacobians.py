"""Contributions of tokens to the unit embedding of a tower, as vectors, by integration along a path.

Let z(l) = r + l (h - r) be the path from the baseline r to the hidden state h, e(z) the unit embedding and J(z) its
derivative. The contribution of the token row t is the vector P[t] = integral of J(z(l)) (h - r)_t over l. The P[t] of
all rows sum to e(h) - e(r), and P[t] . v is NIB's score of the row for a caption (or an image) with the unit
embedding v.

There are two ways to compute them. Forward mode (``jvp_integral``) takes a forward pass for each node, and about one
more for each direction and node. Backward mode (``vjp_integral``) takes a forward pass for each node, and a backward
pass for each vector v and node.
"""

import math
from collections.abc import Sequence
from functools import partial

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from nibt.core.quadrature import AT_ONCE, BUDGET, Nodes, chunks
from nibt.models._attention import AttentionRecorder
from nibt.models._trace import Cut
from nibt.types import Hidden, States

Directions = Float[Tensor, "direction batch token width"]
Vectors = Float[Tensor, "direction batch dim"]


def jvp_integral(cut: Cut, start: Hidden, path: Nodes, directions: Directions, at_once: int | None = None) -> Vectors:
    """Compute the integral of J(z) d along the path for each direction d, in forward mode.

    The forward pass of the states is shared by all directions, if torch supports that. Attention is computed without
    fused kernels, which have no forward mode.

    Args:
        cut: The tower, cut at the layer where the path ends.
        start: The baseline state.
        path: The nodes of the quadrature rule.
        directions: The directions d: (direction, batch, token, width).
        at_once: The largest number of directional derivatives that are computed together.

    Returns:
        One vector per direction: (direction, batch, dim).

    """
    most = at_once or max(1, BUDGET // 2 // cut.hidden.numel())  # more is slower on a processor
    count, step = len(path.positions), max(1, most // len(directions))
    chunk = min(most, AT_ONCE) if cut.hidden.device.type == "cpu" else most
    chunk = math.ceil(len(directions) / math.ceil(len(directions) / chunk))  # equal parts: a rest costs as much
    total = cut.hidden.new_zeros(())
    for part in (slice(first, min(first + step, count)) for first in range(0, count, step)):
        states = _on_path(cut, start, path, part)
        derivative = partial(_derivative, cut, states, start.new_tensor(path.weights[part])[:, None, None])
        with torch.no_grad(), AttentionRecorder(keep=False):
            total = total + (
                torch.func.vmap(derivative, chunk_size=chunk)(directions)
                if cut.mapped
                else torch.stack([derivative(direction) for direction in directions])
            )
    return total


def _derivative(
    cut: Cut, states: States, weights: Float[Tensor, "node 1 1"], direction: Hidden
) -> Float[Tensor, "batch dim"]:
    """Return the directional derivative of the unit embeddings of states, summed with weights over the nodes."""
    tangent = (direction.expand_as(states),)
    pushed_forward = torch.func.jvp(lambda moving: F.normalize(cut.rest(moving), dim=-1), (states,), tangent)
    return (weights * pushed_forward[1]).sum(0)


def vjp_integral(
    cut: Cut, start: Hidden, path: Nodes, vectors: Vectors, at_once: int | None = None
) -> Float[Tensor, "direction batch token"]:
    """Compute P[t] . v for each token row t and each vector v, in backward mode.

    Args:
        cut: The tower, cut at the layer where the path ends.
        start: The baseline state.
        path: The nodes of the quadrature rule.
        vectors: The vectors v: (direction, batch, dim).
        at_once: The largest number of states that go through the tower together.

    """
    difference = cut.hidden - start
    total = difference.new_zeros(len(vectors), *difference.shape[:2])
    for part in chunks(len(path.positions), cut.hidden, at_once=at_once):
        states = _on_path(cut, start, path, part).requires_grad_()
        weights = start.new_tensor(path.weights[part])[:, None, None, None]
        with torch.enable_grad():
            embedded = F.normalize(cut.rest(states), dim=-1)
        for index, vector in enumerate(vectors):
            (gradient,) = torch.autograd.grad(
                embedded, states, vector.expand_as(embedded), retain_graph=index < len(vectors) - 1
            )
            total[index] += ((weights * gradient).sum(0) * difference).sum(-1)
    return total


def _on_path(cut: Cut, start: Hidden, path: Nodes, part: slice) -> States:
    """Return the states at a slice of the nodes."""
    positions = start.new_tensor(path.positions[part])[:, None, None, None]
    return (start + positions * (cut.hidden - start)).detach()


def part_vectors(cut: Cut, start: Hidden, path: Nodes, masks: Float[Tensor, "part token"], dim: int) -> Vectors:
    """Compute the sum of P[t] over the rows of each part, in the mode that takes fewer passes.

    Args:
        cut: The tower, cut at the layer where the path ends.
        start: The baseline state.
        path: The nodes of the quadrature rule.
        masks: The parts, as ``part_masks`` returns them.
        dim: The size of an embedding.

    """
    difference = cut.hidden - start
    if len(masks) <= dim:  # a forward pass for each part, or a backward pass for each number of the embedding
        return jvp_integral(cut, start, path, masks.to(difference)[:, None, :, None] * difference)
    basis = torch.eye(dim, device=start.device, dtype=start.dtype)[:, None].expand(-1, len(difference), -1)
    return torch.einsum("dbt,pt->pbd", vjp_integral(cut, start, path, basis), masks.to(difference))


def part_masks(groups: Sequence[Sequence[int]], count: int) -> Float[Tensor, "part token"]:
    """Return a part for each group of rows, and a last part for all rows outside of the groups.

    Args:
        groups: The row numbers of each group.
        count: The number of rows.

    Returns:
        1 on the rows of a part, 0 elsewhere.

    """
    masks = torch.zeros(len(groups) + 1, count, dtype=torch.float32, device="cpu")
    for index, group in enumerate(groups):
        masks[index, list(group)] = 1
    masks[-1] = 1 - masks[:-1].sum(0)
    return masks
