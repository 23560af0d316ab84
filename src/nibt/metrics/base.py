"""The contract of metrics: a metric measures a batch of attributions of one side, or the regions of one pair."""

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar, Generic, Literal

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor
from typing_extensions import TypeVar

from nibt.core.side import Side
from nibt.data.ground_truth import GroundTruth, PixelMask
from nibt.data.images import ImageInput
from nibt.options import complete
from nibt.registry import Plugin
from nibt.results.attribution import Attribution
from nibt.results.pixels import to_pixels
from nibt.results.regions import Regions
from nibt.targets.base import Others, Similarity
from nibt.types import Embedding, MeasuredSide, Modality, PerExample

_Value = TypeVar("_Value")
PixelMap = Float[Tensor, "height width"]


@dataclass(frozen=True)
class Candidates:
    """The embeddings that the examples of a batch compete with in retrieval.

    Attributes:
        similarity: The similarity of the model, seen from this side.
        partners: The embeddings of the other side of the batch.
        same_side: For each example, the embeddings of the other pairs on this side.
        opposite: For each example, the embeddings of the other pairs on the other side.
    """

    similarity: Similarity
    partners: Embedding
    same_side: tuple[Tensor, ...]
    opposite: tuple[Tensor, ...]


@dataclass(frozen=True)
class SharedValues:
    """Base class of inputs of which several metrics need the same values.

    Attributes:
        shared: Returns a value that other methods share, from its key and a function that computes it.
        of_model: Returns a value that other pairs share, too.
    """

    shared: Callable[[Hashable, Callable[[], Any]], Any] | None = field(default=None, kw_only=True)
    of_model: Callable[[Hashable, Callable[[], Any]], Any] | None = field(default=None, kw_only=True)
    _cache: dict[Hashable, Any] = field(default_factory=dict, repr=False, compare=False, kw_only=True)

    def once(self, key: Hashable, compute: Callable[[], _Value]) -> _Value:
        """Return a value that several metrics share; the first of them computes it."""
        if key not in self._cache:
            self._cache[key] = compute()
        return self._cache[key]

    def once_for_all_methods(self, key: Hashable, compute: Callable[[], _Value]) -> _Value:
        """Return a value that depends on the inputs and the model only; the first method and metric computes it."""
        return self.once(key, compute) if self.shared is None else self.shared(key, compute)

    def once_for_all_pairs(self, key: Hashable, compute: Callable[[], _Value]) -> _Value:
        """Return a value that depends on the model only; the first pair, method and metric computes it."""
        return self.once(key, compute) if self.of_model is None else self.of_model(key, compute)


@dataclass(frozen=True)
class MetricInput(SharedValues):
    """The input of a metric.

    Attributes:
        side: The side. The metric measures its score, which may differ from the score that the attribution explains.
        attribution: The attribution that is measured.
        truths: The ground truth of each example, where it is known.
        again: Calls the same method with the same options on another side, such as one with perturbed inputs.
        of_other_caption: Calls the same method for the same images with another caption each.
        candidates: Returns what the examples compete with in retrieval among the pairs of the call.
        images: The images of the examples.
        for_embeddings: Calls the same method for the same images and other captions, from the embeddings of a caption
            for each image, (batch, dim), and those of the captions that all are compared with, (caption, dim), or None.
        embed: Returns the embeddings of images or captions, (item, dim).
    """

    side: Side
    attribution: Attribution
    truths: tuple[GroundTruth, ...] = ()
    again: Callable[[Side], Attribution] | None = None
    of_other_caption: Callable[[], Attribution] | None = None
    candidates: Callable[[], Candidates] | None = None
    images: tuple[ImageInput, ...] = ()
    for_embeddings: Callable[[Embedding, Others | None], Attribution] | None = None
    embed: Callable[[Modality, Sequence[ImageInput | str]], Embedding] | None = None


@dataclass(frozen=True)
class Noun:
    """A word, or several, that names an object of the image.

    Attributes:
        words: The positions of its words among those of the regions.
        mask: True on the visible pixels of its object.
        others: The masks of the objects of the other nouns.
    """

    words: tuple[int, ...]
    mask: PixelMask
    others: tuple[PixelMask, ...]


@dataclass(frozen=True)
class RegionsInput(SharedValues):
    """The input of a metric of regions: one pair.

    Attributes:
        regions: The regions of the words of the caption.
        image: The image side of the pair.
        text: The text side.
        nouns: The nouns whose objects are known.
        others: The masks of the objects that the caption does not name.
    """

    regions: Regions
    image: Side
    text: Side
    nouns: tuple[Noun, ...] = ()
    others: tuple[PixelMask, ...] = ()

    def pixels(self, noun: Noun) -> PixelMap:
        """Return the map of a noun, resized bilinearly to the pixels of the region that the model sees."""
        return to_pixels(self.regions.for_words(*noun.words), *noun.mask.shape).cpu()


_Input = TypeVar("_Input", bound=SharedValues, default=MetricInput)


@dataclass(frozen=True)
class Metric(Plugin, ABC, Generic[_Input]):
    """Base class of metrics: one number per example. The options of a metric are its dataclass fields.

    The input is a ``MetricInput`` for maps of images and captions. A metric of regions is a ``Metric[RegionsInput]``
    with ``sides = ("regions",)``. An example that lacks what the metric needs, such as a mask, gets NaN.

    Attributes:
        better: Which values are better. An object may have another direction than its class, by its options.
        sides: What the metric measures: ``image``, ``text`` or both, or ``regions``.
        bounds: The least and the largest possible value, at which intervals end. If all values are at the bounds, they
            are treated as hits and misses.
        only_by_name: Whether the metric is computed only if it is named, since it needs many more maps.
    """

    better: ClassVar[Literal["higher", "lower", "neither"]]
    sides: ClassVar[tuple[MeasuredSide, ...]] = ("image", "text")
    bounds: ClassVar[tuple[float, float]] = (-math.inf, math.inf)
    only_by_name: ClassVar[bool] = False

    def __post_init__(self) -> None:
        complete(self)

    @abstractmethod
    def __call__(self, metric_input: _Input) -> PerExample:
        """Compute the numbers of a batch."""

    def measured(self, metric_input: _Input) -> tuple[PerExample, Float[Tensor, "batch level"] | None]:
        """Compute the numbers of a batch, and the curves under which they are the areas, if the metric has curves."""
        return self(metric_input), None


class AreaMetric(Metric[_Input], ABC):
    """Base class of areas under curves, whose points are at equal distances from 0 to 1."""

    @abstractmethod
    def curve(self, metric_input: _Input) -> Float[Tensor, "batch level"]:
        """Compute the curves of a batch."""

    def __call__(self, metric_input: _Input) -> PerExample:
        return self.measured(metric_input)[0]

    def measured(self, metric_input: _Input) -> tuple[PerExample, Float[Tensor, "batch level"]]:
        curves = self.curve(metric_input)
        return torch.trapezoid(curves, dim=1) / (curves.shape[1] - 1), curves


class ShareMetric(Metric[_Input], ABC):
    """Base class of metrics of images whose values are from 0 to 1, and better if they are higher."""

    better = "higher"
    bounds = (0.0, 1.0)
    sides = ("image",)


class MaskMetric(ShareMetric, ABC):
    """Base class of metrics of a map and the mask of the objects that the caption names."""

    @abstractmethod
    def number(self, scores: PixelMap, mask: PixelMask) -> float:
        """Compute the number of a map, upsampled to the pixels."""

    def __call__(self, metric_input: MetricInput) -> PerExample:
        return on_masks(metric_input, self.number)


class NounMetric(ShareMetric[RegionsInput], ABC):
    """Base class of means over the nouns of a caption."""

    sides = ("regions",)

    @abstractmethod
    def number(self, pixels: PixelMap, noun: Noun) -> float:
        """Compute the number of the map of a noun and its objects."""

    def __call__(self, metric_input: RegionsInput) -> PerExample:
        """Compute the mean over the nouns of a pair; NaN without a noun."""
        values = [self.number(metric_input.pixels(noun), noun) for noun in metric_input.nouns]
        mean = float(np.nanmean(values)) if values and not np.isnan(values).all() else torch.nan
        return torch.tensor([mean], dtype=torch.float64)


class WordMetric(ShareMetric, ABC):
    """Base class of metrics of the scores of words; NaN for a caption without the words that the metric asks for."""

    sides = ("text",)

    @abstractmethod
    def mask(self, truth: GroundTruth) -> Bool[Tensor, " word"] | None:
        """Return the words that the metric asks for, if they are known."""

    @abstractmethod
    def number(self, scores: Float[Tensor, " word"], mask: Bool[Tensor, " word"]) -> float:
        """Compute the number of a caption."""

    def __call__(self, metric_input: MetricInput) -> PerExample:
        masks = [self.mask(truth) for truth in metric_input.truths]
        numbers = [
            torch.nan if mask is None or not mask.any() else self.number(word_table(metric_input, item), mask)
            for item, mask in enumerate(masks)
        ]
        return torch.tensor(numbers, dtype=torch.float32)


class PooledMetric(Metric, ABC):
    """Base class of metrics whose number for a data set is not the mean over its pairs, such as a ratio of sums.

    The curve that ``measured`` returns for a pair is what ``pooled`` needs of it, such as counts. The number of a pair
    is that of a data set with this pair only.
    """

    @abstractmethod
    def rows(self, metric_input: MetricInput) -> Float[Tensor, "batch count"]:
        """Return what the number of a data set needs of each pair; NaN for a pair that lacks it."""

    @abstractmethod
    def weighted(self, rows: np.ndarray, weights: np.ndarray) -> np.ndarray:
        """Compute the number of each of several data sets, which have a pair as often as its weight says.

        Args:
            rows: The rows of the pairs, (pair, count).
            weights: Whole numbers, (data set, pair).

        Returns:
            A number per data set; NaN where it is not defined.
        """

    def pooled(self, rows: np.ndarray) -> float:
        """Compute the number of a data set from the rows of its pairs, (pair, count)."""
        return float(self.weighted(rows, np.ones((1, len(rows))))[0])

    def __call__(self, metric_input: MetricInput) -> PerExample:
        return self.measured(metric_input)[0]

    def measured(self, metric_input: MetricInput) -> tuple[PerExample, Float[Tensor, "batch count"]]:
        rows = self.rows(metric_input).cpu().double()
        values = [torch.nan if row.isnan().any() else self.pooled(row.numpy()[None]) for row in rows]
        return torch.tensor(values, dtype=torch.float64, device="cpu"), rows


def on_masks(metric_input: MetricInput, number: Callable[[PixelMap, PixelMask], float]) -> PerExample:
    """Apply ``number`` to each map, upsampled to the pixels, and the mask of the objects that the caption names.

    The result is NaN without a mask, and for one without a pixel, on which no map can be right.
    """
    return torch.tensor(
        [
            torch.nan
            if truth.mask is None or not truth.mask.any()
            else number(to_pixels(metric_input.attribution[item].grid, *truth.mask.shape).cpu(), truth.mask)
            for item, truth in enumerate(metric_input.truths)
        ],
        dtype=torch.float32,
    )


def word_table(metric_input: MetricInput, item: int) -> Float[Tensor, " word"]:
    """Compute the score of each word of one caption: the sum over its tokens."""
    attribution = metric_input.attribution[item]
    scores = [attribution.scores[list(word.tokens)].sum() for word in attribution.units.words[0]]  # pyright: ignore
    return torch.stack(scores).cpu()
