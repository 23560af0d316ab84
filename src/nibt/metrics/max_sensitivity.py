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
"""

from dataclasses import dataclass

import torch

from nibt.core.perturbation import perturbed
from nibt.metrics.base import Metric, MetricInput
from nibt.options import Positive, Samples, Seed
from nibt.types import PerExample


@dataclass(frozen=True)
class MaxSensitivity(Metric):
    """The largest relative change of a map under small perturbations.

    Args:
        samples: The number of perturbed inputs.
        radius: The bound of the uniform noise on a normalized image, and, times the root mean square of the caption's
            embeddings, on those of words, as in captum.
        seed: The seed of the noise.
    """

    better = "lower"
    samples: Samples = 10
    radius: Positive = 0.02
    seed: Seed = 0

    def __call__(self, metric_input: MetricInput) -> PerExample:
        """Compute the numbers of a batch; NaN if the input cannot call the method again."""
        scores = metric_input.attribution.scores.float()
        if metric_input.again is None:
            return torch.full((len(scores),), torch.nan, dtype=torch.float32)
        size, most = scores.norm(dim=-1), scores.new_zeros(len(scores))
        for sample in range(self.samples):
            with perturbed(metric_input.side, self.radius, self.seed, sample) as side:
                most = torch.maximum(most, (metric_input.again(side).scores.float() - scores).norm(dim=-1))
        return (most / torch.where(size > 0, size, torch.ones_like(size))).cpu()
