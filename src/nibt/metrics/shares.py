"""The share of the absolute score at a place, and the share of words with the right sign."""

from dataclasses import dataclass

from torch import Tensor

from nibt.data.ground_truth import GroundTruth
from nibt.metrics.base import Metric, MetricInput, WordMetric
from nibt.types import PerExample


@dataclass(frozen=True)
class SpecialShare(Metric, name="special_token_share"):
    """The share of the absolute score on rows without a unit, from 0 to 1.

    These rows are class, start, end and padding tokens.

    Use it when:
        You choose a layer or a method: above one half, the map shows the smaller part.

    Avoid it when:
        You rank methods: no direction is better.

    Source:
        nibt
    """

    better = "neither"
    bounds = (0.0, 1.0)

    def __call__(self, metric_input: MetricInput) -> PerExample:
        return metric_input.attribution.special_token_share.float().cpu()


@dataclass(frozen=True)
class CornerShare(Metric, name="corner_share"):
    """The share of the absolute score on the four corner patches, from 0 to 1.

    Range:
        0 to 1; a uniform map has 4 / number of patches

    Use it when:
        You suspect that background patches store global information (Darcet et al., ICLR 2024).

    Avoid it when:
        You rank methods: objects may lie in corners, and no direction is better.

    Source:
        the reviews of NIB's paper
    """

    better = "neither"
    bounds = (0.0, 1.0)
    sides = ("image",)

    def __call__(self, metric_input: MetricInput) -> PerExample:
        size = metric_input.attribution.grid.abs()
        corners = size[:, [0, 0, -1, -1], [0, -1, 0, -1]].sum(-1)
        return (corners / size.sum((-2, -1)).clamp_min(1e-30)).float().cpu()


@dataclass(frozen=True)
class AbsentWords(WordMetric, name="absent_words"):
    """The share of words for absent objects whose score is negative, from 0 to 1.

    Use it when:
        You rely on the sign of words. Report the share of present words that are positive as well.

    Avoid it when:
        The method has no sign. A method that makes every word negative has 1.

    Source:
        nibt
    """

    def mask(self, truth: GroundTruth) -> Tensor | None:
        return truth.absent

    def number(self, scores: Tensor, mask: Tensor) -> float:
        return float((scores[mask] < 0).float().mean())
