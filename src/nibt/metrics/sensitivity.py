"""Metrics of the change of a map with its inputs: small perturbations, and another caption."""

import math
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from nibt.core.perturbation import perturbed
from nibt.metrics._numbers import rank_correlation
from nibt.metrics.base import Metric, MetricInput
from nibt.options import Positive, Samples, Seed
from nibt.types import PerExample


@dataclass(frozen=True)
class MaxSensitivity(Metric, name="max_sensitivity"):
    r"""Max-sensitivity: the largest relative change of a map under small perturbations of the input.

    $$\max_{\text{perturbed inputs}} \frac{|\text{perturbed map} - \text{map}|}{|\text{map}|}$$

    The norm is Euclidean; if the map is zero, the change is not divided. The maximum is taken over random draws.

    Range:
        0 and up

    Forward passes:
        ``samples`` (10) explanations

    Use it when:
        You want to know whether a map is stable.

    Avoid it when:
        You want to rank methods by it alone: a constant map has 0. The value is a lower bound.

    Source:
        Yeh et al., NeurIPS 2019, arXiv 1901.09392, definition 3.1

    Args:
        samples: The number of perturbed inputs.
        radius: The bound of the uniform noise on a normalized image, and, times the root mean square of the caption's
            embeddings, on those of words, as in captum.
        seed: The seed of the noise.
    """

    better = "lower"
    bounds = (0.0, math.inf)
    samples: Samples = 10
    radius: Positive = 0.02
    seed: Seed = 0

    def __call__(self, metric_input: MetricInput) -> PerExample:
        """Compute the numbers of a batch; NaN if the input cannot call the method again."""
        scores = metric_input.attribution.scores.float()
        if metric_input.again is None:
            return torch.full((len(scores),), torch.nan, dtype=torch.float32)

        size = scores.norm(dim=-1)
        most = scores.new_zeros(len(scores))
        for sample in range(self.samples):
            with perturbed(metric_input.side, self.radius, self.seed, sample) as side:
                most = torch.maximum(most, (metric_input.again(side).scores.float() - scores).norm(dim=-1))

        return (most / torch.where(size > 0, size, torch.ones_like(size))).cpu()


_DIGITS = 4  # of scores relative to the largest one; smaller differences are rounding errors


@dataclass(frozen=True)
class Mismatch(Metric, name="mismatch"):
    """Correlation of the map with the map of the same image for another caption, by Spearman.

    The other caption is one of twelve captions. Which one depends only on the caption of the pair, with which it shares
    no word. A map that does not depend on the caption has the value 1.

    Range:
        -1 to 1

    Forward passes:
        one explanation

    Use it when:
        You want to find maps that show all objects for every caption, without ground truth.

    Avoid it when:
        You want to rank methods by it alone: a map that is random for each caption has 0. Some correlation is right,
        since neither caption names the background.

    Source:
        nibt; the reviews of NIB's paper
    """

    better = "lower"
    bounds = (-1.0, 1.0)
    sides = ("image",)

    def __call__(self, metric_input: MetricInput) -> PerExample:
        scores = metric_input.attribution.scores
        if metric_input.of_other_caption is None:
            return torch.full((len(scores),), torch.nan, dtype=torch.float32)
        pairs = zip(scores, metric_input.of_other_caption().scores, strict=True)
        return torch.tensor([_spearman(*pair) for pair in pairs], dtype=torch.float32)


def _spearman(first: Float[Tensor, " unit"], second: Float[Tensor, " unit"]) -> float:
    """Return Spearman's correlation: 1 for two flat maps, and 0 if only one is flat."""
    exact = [scores.cpu().double() for scores in (first, second)]
    rounded = [(scores / scores.abs().max().clamp_min(1e-30)).round(decimals=_DIGITS) for scores in exact]
    flat = [bool((scores == scores[0]).all()) for scores in rounded]
    return float(all(flat)) if any(flat) else rank_correlation(*rounded)
