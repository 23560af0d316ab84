"""Contributions of tokens to the unit embedding of a tower, as vectors, by integration along a path.

Let z(l) = r + l (h - r) be the path from the baseline r to the hidden state h, e(z) the unit embedding and J(z) its
derivative. The contribution of the token row t is the vector P[t] = integral of J(z(l)) (h - r)_t over l. The P[t] of
all rows sum to e(h) - e(r), and P[t] . v is NIB's score of the row for a caption (or an image) with the unit
embedding v. In place of e there may be any function of the state: what ``rest`` of a cut computes is differentiated.

There are two ways to compute the integrand at a node. Forward mode (``jvp_at``) takes a forward pass for each node, and
about one more for each direction and node. Backward mode (``vjp_at``) takes a forward pass for each node, and a
backward pass for each vector v and node. ``nibt.core.refinement`` weights the nodes.
"""

import math
from collections.abc import Sequence
from dataclasses import replace
from functools import partial

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from nibt.core.quadrature import AT_ONCE, BUDGET, chunks
from nibt.models._attention import AttentionRecorder
from nibt.models._trace import Cut
from nibt.types import Hidden, States

Directions = Float[Tensor, "direction batch token width"]
Vectors = Float[Tensor, "direction batch dim"]
VectorsAt = Float[Tensor, "node direction batch dim"]
Positions = Sequence[float]


def normalized(cut: Cut) -> Cut:
    """Return a cut tower whose ``rest`` computes unit embeddings."""
    return replace(cut, rest=lambda states: F.normalize(cut.rest(states), dim=-1))


def jvp_at(
    cut: Cut, start: Hidden, positions: Positions, directions: Directions, at_once: int | None = None
) -> VectorsAt:
    """Compute J(z) d at positions of the path for each direction d, in forward mode.

    The forward pass of the states is shared by all directions, if torch supports that. Attention is computed without
    fused kernels, which have no forward mode.
    """
    most = at_once or max(1, BUDGET // 2 // cut.hidden.numel())  # more is slower on a processor
    count, step, parts = len(positions), max(1, most // len(directions)), []
    chunk = min(most, AT_ONCE) if cut.hidden.device.type == "cpu" else most
    chunk = math.ceil(len(directions) / math.ceil(len(directions) / chunk))  # equal parts: a rest costs as much
    for batch in (slice(first, min(first + step, count)) for first in range(0, count, step)):
        derivative = partial(_derivative, cut, _on_path(cut, start, positions[batch]))
        with torch.no_grad(), AttentionRecorder(keep=False):
            parts.append(
                torch.func.vmap(derivative, chunk_size=chunk)(directions)
                if cut.mapped
                else torch.stack([derivative(direction) for direction in directions])
            )
    return torch.cat(parts, 1).transpose(0, 1)


def _derivative(cut: Cut, states: States, direction: Hidden) -> Float[Tensor, "node batch dim"]:
    """Return the directional derivative of what states determine."""
    return torch.func.jvp(cut.rest, (states,), (direction.expand_as(states),))[1]


def vjp_at(
    cut: Cut, start: Hidden, positions: Positions, vectors: Vectors, at_once: int | None = None, special: int = 0
) -> Float[Tensor, "node direction batch value"]:
    """Compute the integrand of P[t] . v at positions of the path, for each row t and vector v, in backward mode.

    The gradients at the first ``special`` rows follow the integrands of all rows.
    """
    difference = cut.hidden - start
    batch, tokens, width = difference.shape
    result = difference.new_zeros(len(positions), len(vectors), batch, tokens + special * width)
    for chunk in chunks(len(positions), cut.hidden, at_once=at_once):
        states = _on_path(cut, start, positions[chunk]).requires_grad_()
        with torch.enable_grad():
            embedded = cut.rest(states)
        for index, vector in enumerate(vectors):
            (gradient,) = torch.autograd.grad(
                embedded, states, vector.expand_as(embedded), retain_graph=index < len(vectors) - 1
            )
            result[chunk, index, :, :tokens] = (gradient * difference).sum(-1)
            result[chunk, index, :, tokens:] = gradient[..., :special, :].flatten(-2)
    return result


def _on_path(cut: Cut, start: Hidden, positions: Positions) -> States:
    """Return the states at positions of the path."""
    return (start + start.new_tensor(positions)[:, None, None, None] * (cut.hidden - start)).detach()


def part_vectors_at(
    cut: Cut, start: Hidden, positions: Positions, masks: Float[Tensor, "part token"], dim: int
) -> VectorsAt:
    """Compute the integrand of the sum of P[t] over the rows of each part, in the mode that takes fewer passes."""
    difference = cut.hidden - start
    if len(masks) <= dim:  # a forward pass for each part, or a backward pass for each number of the embedding
        return jvp_at(cut, start, positions, masks.to(difference)[:, None, :, None] * difference)
    basis = torch.eye(dim, device=start.device, dtype=start.dtype)[:, None].expand(-1, len(difference), -1)
    return torch.einsum("ndbt,pt->npbd", vjp_at(cut, start, positions, basis), masks.to(difference))


def part_masks(groups: Sequence[Sequence[int]], count: int) -> Float[Tensor, "part token"]:
    """Return a part for each group of rows, and a last part for all rows outside of the groups."""
    masks = torch.zeros(len(groups) + 1, count, dtype=torch.float32, device="cpu")
    for index, group in enumerate(groups):
        masks[index, list(group)] = 1
    masks[-1] = 1 - masks[:-1].sum(0)
    return masks
