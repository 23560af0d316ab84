"""Weights of the two terms of an information bottleneck for each pair, as in AdaIB.

The loss of an item is g mean(KL) - f mean S(z). M2IB has f = 1 and g = beta for all pairs. AdaIB computes f from the
distance of the pair's unit embeddings, so that a pair that matches counts more, and g from f. Only g / f, the price of
information, matters to a gradient step that does not depend on the size of the gradient, as that of Adam.
"""

from collections.abc import Callable

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from nibt.core.side import Side
from nibt.errors import Unsupported
from nibt.methods._checks import generator
from nibt.types import PerExample

PAIR_WEIGHTS = ("none", "euclidean", "manhattan", "softplus")
PRICES = ("inverse", "learned")
EPSILON = 1e-6
_HIDDEN = 32  # units of the perceptron, as published


def pair_weight(side: Side, formula: str, sharpness: float) -> PerExample:
    """Compute the weight f of each pair from its unit embeddings."""
    if side.model.similarity.item_ndim > 1:
        raise Unsupported(
            f"weights of pairs need one embedding per item (got {side.model.id}, which compares sets of vectors): use "
            "pair_weight='none'"
        )
    normalized = F.normalize(side.trace.embedding.float(), dim=-1)
    with torch.no_grad():
        if formula == "manhattan":
            return 1 / ((normalized - _other(side)).abs().sum(-1) + EPSILON)
        cosine = _cosines(side)(side.trace.embedding).float()
    if formula == "softplus":
        return F.softplus(sharpness * (1 + cosine) / 2) + EPSILON
    return 1 / ((2 - 2 * cosine).clamp_min(0).sqrt() + EPSILON)


def _cosines(side: Side) -> Callable[[Tensor], PerExample]:
    """Return the function that computes cosines with the other side."""
    compare = side.similarities
    return side.score if compare is None else lambda embedding: compare(embedding)[..., 0]


def _other(side: Side) -> Float[Tensor, "batch dim"]:
    """Return the unit embeddings of the other side, whose coordinates are its cosines with the axes."""
    dim = side.trace.embedding.shape[-1]
    axes = torch.eye(dim, dtype=side.trace.embedding.dtype, device=side.trace.embedding.device)
    return _cosines(side)(axes[:, None].expand(-1, len(side.trace.embedding), -1)).float().T


class Perceptron:
    """The learned weight g of the information: a perceptron 1 -> 32 -> 1 of f for each item, with rectifiers.

    The second rectifier keeps the price of information from becoming negative. All items start with the same weights,
    which are drawn as torch draws those of a linear layer.

    Args:
        weight: The weight f of each item.
        seed: The seed of the first weights.

    """

    def __init__(self, weight: PerExample, seed: int) -> None:
        draws, bound = generator(seed, 0, 1), _HIDDEN**-0.5
        shapes = ((_HIDDEN, 1.0), (_HIDDEN, 1.0), (_HIDDEN, bound), (1, bound))
        drawn = [draws.uniform(-most, most, size).astype(np.float32) for size, most in shapes]
        self.weight = weight
        self.parameters = [
            torch.from_numpy(values).to(weight).repeat(len(weight), 1).requires_grad_() for values in drawn
        ]

    def __call__(self) -> PerExample:
        """Compute g."""
        first, first_bias, second, second_bias = self.parameters
        hidden = (self.weight[:, None] * first + first_bias).relu()
        return ((hidden * second).sum(-1) + second_bias[:, 0]).relu()


def clipped(gradients: list[Tensor], most: float | None) -> list[Tensor]:
    """Scale the gradients of each item, so that their joint norm is at most ``most``; None leaves them as they are."""
    if most is None:
        return gradients
    norm = torch.stack([gradient.flatten(1).square().sum(-1) for gradient in gradients]).sum(0).sqrt()
    factor = (most / (norm + EPSILON)).clamp_max(1.0)
    return [gradient * factor.reshape(-1, *(1,) * (gradient.ndim - 1)) for gradient in gradients]
