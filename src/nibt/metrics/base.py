"""A metric measures one batch of attributions of one side."""

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from nibt.core.side import Side
from nibt.data.ground_truth import GroundTruth
from nibt.registry import Plugin
from nibt.results.attribution import Attribution, to_pixels
from nibt.types import Modality, PerExample


@dataclass(frozen=True)
class MetricInput:
    """All that a metric sees: the side, its attribution and, where it is known, the truth of each example.

    The side's score is the one that is measured, which need not be the one that the attribution explains. ``again``
    asks the same method for the same explanation of another side: of disturbed inputs, say.
    """

    side: Side
    attribution: Attribution
    truths: tuple[GroundTruth, ...] = ()
    again: Callable[[Side], Attribution] | None = None
    _found: dict[Any, Any] = field(default_factory=dict, repr=False, compare=False)

    def once(self, key: Any, find: Callable[[], Any]) -> Any:
        """What several metrics of a trial need, found by the first of them."""
        if key not in self._found:
            self._found[key] = find()
        return self._found[key]


@dataclass(frozen=True)
class Metric(Plugin, ABC):
    """A number for each example; the class says on which sides it has a meaning, and which way is better.

    An example that lacks what the metric needs (a mask, a naming word) gets NaN, which means: not measured.
    """

    better: ClassVar[Literal["higher", "lower", "neither"]]
    sides: ClassVar[tuple[Modality, ...]] = ("image", "text")

    @abstractmethod
    def __call__(self, trial: MetricInput) -> PerExample:
        """The numbers of a batch."""

    def measured(self, trial: MetricInput) -> tuple[PerExample, Float[Tensor, "batch level"] | None]:
        """The numbers of a batch, and the curves that they are the areas under, where there are any."""
        return self(trial), None


PixelMap = Float[Tensor, "height width"]
PixelMask = Bool[Tensor, "height width"]


def on_masks(trial: MetricInput, number: Callable[[PixelMap, PixelMask], float]) -> PerExample:
    """A number of each map, stretched over the seen pixels, and the mask of what the caption names."""
    return torch.tensor(
        [
            torch.nan
            if truth.mask is None
            else number(to_pixels(trial.attribution[item].grid, *truth.mask.shape).cpu(), truth.mask)
            for item, truth in enumerate(trial.truths)
        ],
        dtype=torch.float32,
    )


def word_table(trial: MetricInput, item: int) -> Float[Tensor, " word"]:
    """The score of each word of one caption: the sum over its tokens."""
    answer = trial.attribution[item]
    scores = [answer.scores[list(word.tokens)].sum() for word in answer.units.words[0]]  # pyright: ignore
    return torch.stack(scores).cpu()
