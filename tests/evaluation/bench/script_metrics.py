"""Metrics of a script, which no other program can find by their names."""

from dataclasses import dataclass

import numpy as np
import torch

from nibt.metrics.base import Metric, MetricInput, PooledMetric
from nibt.types import PerExample


@dataclass(frozen=True)
class PositiveShare(Metric):
    """The share of the absolute score that is positive."""

    better = "higher"
    bounds = (0.0, 1.0)
    sides = ("image",)

    factor: float = 1.0

    def __call__(self, metric_input: MetricInput) -> PerExample:
        scores = metric_input.attribution.grid.flatten(1)
        return self.factor * scores.clamp(min=0).sum(1) / scores.abs().sum(1)


@dataclass(frozen=True)
class PooledShare(PooledMetric, name="pooled_share"):
    """The share of the absolute score of all pairs that is positive."""

    better = "higher"
    bounds = (0.0, 1.0)
    sides = ("image",)

    def rows(self, metric_input: MetricInput) -> torch.Tensor:
        scores = metric_input.attribution.grid.flatten(1)
        return torch.stack([scores.clamp(min=0).sum(1), scores.abs().sum(1)], dim=1)

    def weighted(self, rows: np.ndarray, weights: np.ndarray) -> np.ndarray:
        sums = weights @ rows
        return sums[:, 0] / sums[:, 1]
