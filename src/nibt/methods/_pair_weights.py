"""Weights of the two terms of an information bottleneck for each pair, as in AdaIB.

The loss of an item is g mean(KL) - f mean S(z). M2IB has f = 1 and g = beta for all pairs. AdaIB computes f from the
distance of the pair's unit embeddings, so that a pair that matches counts more, and g = 1 / f. Only g / f, the price of
information, matters to a gradient step that does not depend on the size of the gradient, as that of Adam.
"""

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

from nibt.core.side import Side
from nibt.errors import Unsupported
from nibt.types import Hidden, PerExample

EPSILON = 1e-6


def pair_weight(side: Side, formula: str, sharpness: float) -> PerExample:
    """Compute the weight f of each pair from its unit embeddings."""
    if side.dual_encoder.similarity.item_ndim > 1:
        raise Unsupported(
            f"weights of pairs need one embedding per item (got {side.dual_encoder.id}, which compares sets of "
            "vectors): use pair_weight='none'"
        )
    normalized = F.normalize(side.trace.embedding.float(), dim=-1)
    with torch.no_grad():
        if formula == "manhattan":
            axes = torch.eye(normalized.shape[-1], dtype=side.trace.embedding.dtype, device=normalized.device)
            # the coordinates of the unit embeddings of the other side are its cosines with the axes
            partners = _cosines(side)(axes[:, None].expand(-1, len(normalized), -1)).float().T
            return 1 / ((normalized - partners).abs().sum(-1) + EPSILON)
        cosine = _cosines(side)(side.trace.embedding).float()
    if formula == "softplus":
        return F.softplus(sharpness * (1 + cosine) / 2) + EPSILON
    return 1 / ((2 - 2 * cosine).clamp_min(0).sqrt() + EPSILON)


def _cosines(side: Side) -> Callable[[Tensor], PerExample]:
    """Return the function that computes cosines with the other side."""
    compare = side.similarities
    return side.score if compare is None else lambda embedding: compare(embedding)[..., 0]


def clipped(gradient: Hidden, most: float | None) -> Hidden:
    """Scale the gradient of each item, so that its norm is at most ``most``; None leaves it as it is."""
    if most is None:
        return gradient
    norm = gradient.flatten(1).square().sum(-1).sqrt()
    return gradient * (most / (norm + EPSILON)).clamp_max(1.0)[:, None, None]
