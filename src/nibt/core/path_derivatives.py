"""Derivatives of the unit embedding of a tower along a path: what each token adds to it, as a vector.

The contributions of tokens to the unit embedding of a tower are vectors. Let z(l) = r + l (h - r) be the path from the
baseline r to the hidden state h, e(z) the unit embedding and J(z) its derivative. The contribution of the token row t
is the vector P[t] = integral of J(z(l)) (h - r)_t over l. The P[t] of all rows sum to e(h) - e(r), and P[t] . v is
NIB's score of the row for a caption (or an image) with the unit embedding v. In place of e there may be any function of
the state: what ``rest`` of a cut computes is differentiated.

There are two ways to compute the integrand at a node. For directions (``jvp_at``), each node takes a forward and a
backward pass, and about one more forward pass for each direction. For vectors v (``vjp_at``), each node takes a forward
pass, and a backward pass for each v. Neither uses the forward mode of PyTorch, whose levels belong to the process: it
fails, or loses derivatives, if another thread uses it, too.
"""

from collections.abc import Sequence
from dataclasses import replace

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from nibt.core.side import AT_ONCE, BUDGET, chunks
from nibt.models._attention import AttentionRecorder
from nibt.models._inputs import Cut
from nibt.types import Hidden, States

Directions = Float[Tensor, "direction batch token width"]
Vectors = Float[Tensor, "direction batch dim"]
VectorsAt = Float[Tensor, "node direction batch dim"]
Positions = Sequence[float]


def normalized(cut: Cut) -> Cut:
    """Return a cut tower whose ``rest`` computes unit embeddings."""
    return replace(cut, rest=lambda states: F.normalize(cut.rest(states), dim=-1))


def jvp_at(cut: Cut, start: Hidden, positions: Positions, directions: Directions) -> VectorsAt:
    """Compute J(z) d at positions of the path for each direction d, by differentiating twice in backward mode.

    The gradient J(z)^T u is linear in u, and its derivative with respect to u along d is J(z) d. The forward pass and
    the gradient are shared by all directions. Attention is computed without fused kernels, which cannot be
    differentiated twice.
    """
    most = BUDGET // 2 // cut.hidden[0].numel()  # a graph of the gradient takes about twice the memory
    result = []

    for chunk in chunks(len(positions), cut.hidden, at_once=min(AT_ONCE, max(1, most))):
        states = _on_path(cut, start, positions[chunk]).requires_grad_()
        with torch.enable_grad(), AttentionRecorder(keep=False):
            embedded = cut.rest(states)
            vector = torch.zeros_like(embedded, requires_grad=True)
            (gradient,) = torch.autograd.grad(embedded, states, vector, create_graph=True)

        def derivative(
            direction: Tensor, batched: bool, gradient: States = gradient, vector: Tensor = vector
        ) -> Float[Tensor, "*direction node batch dim"]:
            return torch.autograd.grad(gradient, vector, direction, retain_graph=True, is_grads_batched=batched)[0]

        along = directions[:, None].expand(-1, *gradient.shape)
        together = max(1, most // (len(states) * len(cut.hidden)))
        if cut.hidden.device.type == "cpu":
            together = min(together, AT_ONCE)  # more is slower on a processor
        if cut.mapped and not torch.is_anomaly_enabled():  # which looks at the numbers of one gradient at a time
            derivatives = torch.cat([derivative(batch, True) for batch in along.split(together)])
        else:
            derivatives = torch.stack([derivative(direction, False) for direction in along])

        result.append(derivatives.transpose(0, 1))

    return torch.cat(result)


def vjp_at(
    cut: Cut, start: Hidden, positions: Positions, vectors: Vectors, special: int = 0
) -> Float[Tensor, "node direction batch value"]:
    """Compute the integrand of P[t] . v at positions of the path, for each row t and vector v, in backward mode.

    The gradients at the first ``special`` rows follow the integrands of all rows.
    """
    difference = cut.hidden - start
    batch, tokens, width = difference.shape
    result = difference.new_zeros(len(positions), len(vectors), batch, tokens + special * width)
    for chunk in chunks(len(positions), cut.hidden):
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
    """Compute the integrand of the sum of P[t] over the rows of each part, in the way that takes fewer passes."""
    difference = cut.hidden - start
    if len(masks) <= dim:  # a pass for each part, or for each number of the embedding
        return jvp_at(cut, start, positions, masks.to(difference)[:, None, :, None] * difference)
    basis = torch.eye(dim, device=start.device, dtype=start.dtype)[:, None].expand(-1, len(difference), -1)
    return torch.einsum("ndbt,pt->npbd", vjp_at(cut, start, positions, basis), masks.to(difference))
