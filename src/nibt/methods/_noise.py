r"""Gaussian channels: the noise and the information of the bottlenecks IBA, M2IB and NIB, which are one family.

$$z = \lambda h + (1 - \lambda) e, \quad e \sim N(r, s^2)$$

$h$ is the hidden state, and $\lambda$ says how much of it passes. IBA (Schulz et al., ICLR 2020) and M2IB (Wang et al.,
NeurIPS 2023) learn a $\lambda$ for each element of the state; $r$ and $s$ are the mean and the deviation of the
features, or 0 and 1. NIB (Zhu et al., ICLR 2025) narrows one $\lambda$ for the whole state from 1 to 0; $r$ is its
baseline, and $s$ goes to 0.
"""

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor

from nibt.core.perturbation import generator
from nibt.types import Hidden


def moments(
    hidden: Hidden, tokens: Bool[Tensor, "batch token 1"]
) -> tuple[Float[Tensor, "batch 1 width"], Float[Tensor, "batch 1 width"]]:
    """Compute the mean and the standard deviation of the features, per channel and item."""
    count = tokens.sum(1, keepdim=True)
    mean = (hidden * tokens).sum(1, keepdim=True) / count
    variance = ((hidden - mean).square() * tokens).sum(1, keepdim=True) / count
    return mean, variance.sqrt().clamp_min(1e-6)


def generators(seed: int, rows: int) -> list[np.random.Generator]:
    """Return a generator for each row, so that its noise depends neither on the length nor on other items."""
    return [generator(seed, row) for row in range(rows)]


def draw(draws: list[np.random.Generator], samples: int, like: Hidden) -> Float[Tensor, "node token width"]:
    """Draw standard normal noise for each token, the same for all items of the batch."""
    rows = [row.standard_normal((samples, like.shape[2]), dtype=np.float32) for row in draws]
    return torch.from_numpy(np.stack(rows, 1)).to(like)


def information(kept: Tensor, log_variance: Tensor) -> Tensor:
    """Compute what z tells about h, in nats: its divergence from the noise e, -1/2 (1 + ln v - m^2 - v)."""
    return -0.5 * (1 + log_variance - kept.square() - log_variance.exp())
