r"""M2IB: a learned information bottleneck (Wang et al., NeurIPS 2023, arXiv 2312.17174).

$$z = \lambda h + (1 - \lambda) e, \quad e \sim N(0, 1)$$

$$\text{loss} = \beta \, \text{mean}(\text{KL}) - \text{mean}(S(z))$$

$$\text{KL} = -\frac{1}{2} (1 + \ln(v) - m^2 - v)$$

$$\text{score}_t = \sum_c \text{KL}_{tc}$$

Here, $\lambda = \text{sigmoid}(a)$, $m = \lambda h$ and $v = (1 - \lambda)^2$. Each token and channel $c$ of the hidden
state $h$ has a number $a$ that is learned. It starts at 5, where $\lambda = 0.993$ and almost no noise is added to $h$.
The noise $e$ is drawn for each forward pass. The scores are those of the last step. The variant ``iba`` is the
bottleneck of Schulz et al. (ICLR 2020, arXiv 2001.00396), whose noise has the mean and the standard deviation of the
features. The variant ``adaib`` is AdaIB (ICLR 2026 submission): in the loss, $S$ has the weight
$f = 1 / (|u_1 - u_2| + 10^{-6})$, with the unit embeddings $u_1$ and $u_2$ of the image and the caption, and $\beta$ is
$1 / (f + 10^{-6})$.

Shows:
    How much information about each token, in nats, a bottleneck keeps so that the pair still matches.

Use it when:
    You compare with the published M2IB, or want to know where a bottleneck keeps information.

Avoid it when:
    You need signs, a low cost, or a map that depends on the caption: on 100 scenes, the maps of an image for the right
    caption and for an unrelated caption have a rank correlation of 0.83.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated, ClassVar

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from nibt.core.side import Side, chunks
from nibt.errors import Unsupported
from nibt.methods._noise import draw, generators, information, moments
from nibt.methods.base import LayerMethod, average_layers, both_sides
from nibt.options import Either, NotNegative, Positive, Range, Seed, Steps
from nibt.progress import tracked
from nibt.results.attribution import Attribution
from nibt.types import Hidden, PerExample, PerToken, States

START = 5.0
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


@dataclass(frozen=True)
class M2IB(LayerMethod):
    """The information that each token keeps under a learned bottleneck.

    Args:
        beta: The weight of the information in the loss.
        steps: The number of steps of Adam.
        samples: The number of draws of noise per step.
        rate: The learning rate.
        seed: The first seed.
        seeds: The number of seeds, whose maps are averaged.
        noise: Standard normal noise (``unit``), or noise with the mean and the standard deviation of the ``features``.
        pair_weight: The weight of the target of a pair in the loss: 1 (``none``), the inverse ``euclidean`` or
            ``manhattan`` distance of the unit embeddings, or the ``softplus`` of the cosine. The weight of the
            information is the inverse of this weight; with ``none``, it is ``beta``.
        sharpness: The factor of (1 + cosine) / 2 in ``softplus``.
        clip: The largest norm of an item's gradient. None does not limit it.
    """

    paper = "Wang et al., NeurIPS 2023, arXiv 2312.17174"
    category = "perturbation"
    cost = "1 + about 3 x seeds x steps x samples x (1 - layer / depth)"
    signed = False
    uses_gradients = True
    layer_leaves_block = True
    conditions: ClassVar = {"sharpness": ("pair_weight", ("softplus",)), "beta": ("pair_weight", ("none",))}
    variants: ClassVar = both_sides(
        default={"layer": 0.75},
        paper={"layer": 0.75},
        iba={"layer": 0.75, "noise": "features"},
        adaib={"layer": 0.75, "pair_weight": "euclidean", "clip": 1.0},
    )

    beta: NotNegative = 0.1
    steps: Steps = 10
    samples: Annotated[int, Range(1, 1000)] = 10
    rate: Positive = 1.0
    seed: Seed = 0
    seeds: Annotated[int, Range(1, 1000)] = 1
    noise: Annotated[str, Either(("unit", "features"))] = "unit"
    pair_weight: Annotated[str, Either(("none", "euclidean", "manhattan", "softplus"))] = "none"
    sharpness: Positive = 1.0
    clip: Positive | None = None

    def attribute(self, side: Side) -> Attribution:
        """Compute the mean of the maps of all layers and seeds, each of which is learned separately."""
        seeds = range(self.seed, self.seed + self.seeds)
        return average_layers(
            side, self.layer, [self._optimize(side, layer, seed) for layer in self.layer for seed in seeds]
        )

    def _optimize(self, side: Side, layer: int, seed: int) -> PerToken:
        """Compute the information that each token keeps, in nats."""
        cut = side.cut(layer)
        at_once = side.at_once(layer, cut.hidden)
        tokens = side.tower.valid_tokens(side.inputs, cut.hidden)[..., None]
        exact = cut.hidden.to(torch.promote_types(cut.hidden.dtype, torch.float32))  # Adam needs small differences
        mean, deviation = self._noise(exact, tokens)
        hidden = (exact - mean) / deviation
        draws = generators(seed, hidden.shape[1])
        a = torch.full_like(hidden, START).requires_grad_()
        fit, price = self._weights(side, hidden)
        optimizer = torch.optim.Adam([a], lr=self.rate)

        def score(states: States) -> Float[Tensor, "node batch"]:
            return side.score(cut.rest((states * deviation + mean).to(cut.hidden.dtype)))

        bits = torch.zeros_like(hidden)
        for _ in tracked(range(self.steps)):
            with torch.enable_grad():
                bits = information_of(a, hidden)
                penalty = (price * (bits * tokens).sum((1, 2)) / (tokens.sum((1, 2)) * hidden.shape[2])).sum()
                (gradient,) = torch.autograd.grad(penalty, a)

            gain = gradient_of_score(score, a, hidden, draw(draws, self.samples, hidden), at_once)
            a.grad = clipped(gradient - fit[:, None, None] * gain, self.clip)
            optimizer.step()

        return (bits.detach() * tokens).sum(-1)

    def _weights(self, side: Side, hidden: Hidden) -> tuple[PerExample, PerExample]:
        """Return the weights of the score and of the information for each item."""
        if self.pair_weight == "none":
            return hidden.new_ones(len(hidden)), hidden.new_full((len(hidden),), self.beta)
        fit = pair_weight(side, self.pair_weight, self.sharpness).to(hidden)
        return fit, 1 / (fit + EPSILON)

    def _noise(self, hidden: Hidden, tokens: Tensor) -> tuple[Tensor, Tensor]:
        """Compute the mean and the standard deviation of the noise, per channel and item."""
        return moments(hidden, tokens) if self.noise == "features" else (hidden.new_zeros(()), hidden.new_ones(()))


def information_of(a: Hidden, hidden: Hidden) -> Hidden:
    """Compute the information that passes; ln v uses logsigmoid, which stays finite."""
    return information(a.sigmoid() * hidden, 2 * F.logsigmoid(-a))


def gradient_of_score(
    score: Callable[[States], Tensor],
    a: Hidden,
    hidden: Hidden,
    noise: Float[Tensor, "node token width"],
    at_once: int | None,
) -> Hidden:
    """Compute the gradient of the mean score over noisy states, a chunk at a time."""
    total = torch.zeros_like(hidden)
    for chunk in chunks(len(noise), hidden, at_once=at_once):
        with torch.enable_grad():
            keep = a.sigmoid()
            states = keep * hidden + (1 - keep) * noise[chunk, None]
            (gradient,) = torch.autograd.grad(score(states).sum() / len(noise), a)
        total += gradient

    return total
