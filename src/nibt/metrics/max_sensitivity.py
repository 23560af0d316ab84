"""Max-sensitivity (Yeh et al., NeurIPS 2019, arXiv 1901.09392, definition 3.1): by how much a map may change when its
input hardly does, as a share of the map,

    max over disturbed inputs of |map there - map| / |map|

in the Euclidean norm; the change itself where the map is zero. Images are disturbed on their normalised pixels,
captions in the embeddings of their words, as ``masking.perturbed`` says; the maximum is over random draws, so it is a
lower bound. The method is asked once more for each draw. Ones never change: a low number is not enough.
"""

from dataclasses import dataclass

import torch

from nibt.core.perturbation import perturbed
from nibt.errors import BadOption
from nibt.metrics.base import Metric, MetricInput
from nibt.types import PerExample


@dataclass(frozen=True)
class MaxSensitivity(Metric):
    """``samples``: how many disturbed inputs are tried.

    ``radius``: how large the noise is on each number, of a normalised image or, times the root mean square of a
    caption's, of a word embedding; both as in captum.
    """

    better = "lower"
    samples: int = 10
    radius: float = 0.02
    seed: int = 0

    def __post_init__(self) -> None:
        if self.samples < 1 or self.seed < 0 or not self.radius > 0:
            raise BadOption(
                f"samples must be at least 1, seed at least 0 and radius above 0 (got {self.samples}, "
                f"{self.seed} and {self.radius})"
            )

    def __call__(self, trial: MetricInput) -> PerExample:
        """NaN where the trial cannot ask the method again."""
        scores = trial.attribution.scores.float()
        if trial.again is None:
            return torch.full((len(scores),), torch.nan, dtype=torch.float32)
        size, most = scores.norm(dim=-1), scores.new_zeros(len(scores))
        for sample in range(self.samples):
            with perturbed(trial.side, self.radius, self.seed, sample) as side:
                most = torch.maximum(most, (trial.again(side).scores.float() - scores).norm(dim=-1))
        return (most / torch.where(size > 0, size, torch.ones_like(size))).cpu()


PLUGIN = MaxSensitivity
