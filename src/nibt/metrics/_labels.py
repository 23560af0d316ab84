"""Base classes of metrics that know the labels of a data set, and of segmentations by the named objects."""

from abc import ABC
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Annotated

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from nibt.data.ground_truth import GroundTruth
from nibt.datasets._captions import openai_templates
from nibt.errors import Unsupported
from nibt.metrics._numbers import ratio
from nibt.metrics.base import Metric, MetricInput, PixelMap, PixelMask, PooledMetric, ShareMetric
from nibt.options import Range
from nibt.results.pixels import min_max, to_pixels
from nibt.targets.base import Others, check_template, fill_template
from nibt.types import Embedding

OPENAI = "openai"
Cells = Float[Tensor, "row column"]


@dataclass(frozen=True)
class LabelMetric(Metric, ABC):
    """Base class of metrics that know the labels of a data set.

    Args:
        template: The caption of a label, with ``{}`` in its place. With ``openai``, the embedding of a label is the
            mean of those of OpenAI's 80 captions for ImageNet.
    """

    template: str = field(default="a photo of a {}.", kw_only=True)

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.template != OPENAI:
            check_template("template, which may be openai,", self.template, "label")

    def labels(self, metric_input: MetricInput) -> tuple[str, ...]:
        """Return the labels of the pairs, which all have the same ones; none if no pair has labels."""
        return next((truth.labels for truth in metric_input.truths if truth.labels), ())

    def embeddings(self, metric_input: MetricInput, names: tuple[str, ...]) -> Embedding:
        """Return the embeddings of labels by their names, of unit length: (name, dim)."""

        def embedded() -> Embedding:
            assert metric_input.embed is not None
            if metric_input.side.model.item_ndim != 1:
                raise Unsupported(f"{self.name} needs a model with one vector per caption, without late interaction")
            templates = openai_templates() if self.template == OPENAI else (self.template,)
            captions = [fill_template(template, name) for name in names for template in templates]
            embeddings = F.normalize(metric_input.embed("text", captions).float(), dim=-1)
            return F.normalize(embeddings.unflatten(0, (len(names), -1)).mean(1), dim=-1)

        return metric_input.once_for_all_pairs(("labels", self.template, names), embedded)

    def similarities(self, metric_input: MetricInput, embedding: Embedding) -> Float[Tensor, "*batch label"]:
        """Compute the similarity of images with each label."""
        similarity = metric_input.side.dual_encoder.seen_from("image")
        labels = self.embeddings(metric_input, self.labels(metric_input))
        return similarity.to_each(embedding.float(), labels.to(embedding.device)).cpu()

    def maps(
        self, metric_input: MetricInput, labels: Embedding, others: Others | None = None
    ) -> Float[Tensor, "batch row column"]:
        """Compute the map of each image for the embedding of a label, compared with others if there are any."""
        assert metric_input.for_embeddings is not None
        like = metric_input.side.trace.embedding
        others = None if others is None else others.to(like)
        return metric_input.for_embeddings(labels.to(like), others).grid.detach().float().cpu()

    def map_of_each(
        self, metric_input: MetricInput, names: tuple[str, ...], against: bool
    ) -> Float[Tensor, "name batch row column"]:
        """Compute the maps of the images for each name, compared with all other names if ``against`` is true."""

        def computed() -> Float[Tensor, "name batch row column"]:
            embeddings = self.embeddings(metric_input, names)
            count = len(metric_input.truths)
            maps = []
            for place, embedding in enumerate(embeddings):
                others = torch.cat([embeddings[:place], embeddings[place + 1 :]]) if against else None
                maps.append(self.maps(metric_input, embedding.expand(count, -1), others))
            return torch.stack(maps)

        return metric_input.once(("map of each", self.template, names, against), computed)


@dataclass(frozen=True)
class ObjectMetric(ShareMetric, LabelMetric, PooledMetric, ABC):
    """Base class of metrics of a map as a segmentation into the named objects and the background.

    Args:
        centered: Whether the map is that for the label of the pair, minus the mean of the maps for all labels, as in
            LeGrad. It needs a map per label.
    """

    centered: bool = field(default=False, kw_only=True)

    def maps_of_objects(self, metric_input: MetricInput) -> Iterator[tuple[GroundTruth, Cells | None]]:
        """Yield what is known of each pair, and its map, or None if it is centered and the pair has no label."""
        if not self.centered:
            yield from zip(metric_input.truths, metric_input.attribution.grid, strict=True)
            return

        maps = self.map_of_each(metric_input, self.labels(metric_input), against=False)
        mean = maps.mean(0)
        for item, truth in enumerate(metric_input.truths):
            yield truth, None if truth.label is None else maps[truth.label, item] - mean[item]


def object_share(grid: Cells, shape: Sequence[int]) -> PixelMap:
    """Return the positive scores of a map at the pixels, rescaled to [0, 1] over them; a flat map becomes 0."""
    return scaled(to_pixels(grid.float().clamp_min(0), *shape).cpu())


def scaled(pixels: PixelMap) -> PixelMap:
    """Return scores, rescaled to [0, 1] over the pixels; a flat map becomes 0."""
    return min_max(pixels.flatten(), torch.ones(pixels.numel(), dtype=torch.bool, device="cpu")).reshape(pixels.shape)


@dataclass(frozen=True)
class TwoClasses(ObjectMetric, ABC):
    """Base class of metrics of the pixels of the named objects and of the background.

    Args:
        threshold: Pixels above it are on the object, from 0 to below 1; None means the mean of the map.
    """

    threshold: Annotated[float, Range(0, 1, below=True)] | None = None

    def rows(self, metric_input: MetricInput) -> Float[Tensor, "batch 4"]:
        """Return the numbers of true positive, false positive, false negative and true negative pixels."""
        rows = torch.full((len(metric_input.truths), 4), torch.nan, dtype=torch.float64, device="cpu")
        for item, (truth, grid) in enumerate(self.maps_of_objects(metric_input)):
            if truth.mask is not None and grid is not None:
                pixels = object_share(grid, truth.mask.shape)
                above = pixels > (pixels.mean() if self.threshold is None else self.threshold)
                mask = truth.mask
                rows[item] = torch.stack(
                    [(above & mask).sum(), (above & ~mask).sum(), (~above & mask).sum(), (~above & ~mask).sum()]
                )

        return rows


def _overlap(above: PixelMask, mask: PixelMask) -> float:
    union = (above | mask).sum()
    return int((above & mask).sum()) / int(union) if union else torch.nan


def _best(scores: PixelMap, mask: PixelMask) -> float:
    values, order = scores.flatten().sort(descending=True, stable=True)
    hits = mask.flatten()[order].cumsum(0)
    union = torch.arange(1, len(values) + 1, device="cpu") + mask.sum() - hits
    last_of_ties = torch.cat([values[1:] != values[:-1], torch.tensor([True], device="cpu")])
    return float((hits.float() / union)[last_of_ties].max())


def _precision(scores: np.ndarray, has: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Return the average precision for each row of weights; NaN where all images have the label, or none has it."""
    order = np.argsort(-scores, kind="stable")
    last_of_ties = np.append(np.diff(scores[order]) != 0, True)
    ranked = weights[:, order]
    hits, images = (np.cumsum(counts, 1)[:, last_of_ties] for counts in (ranked * has[order], ranked))
    steps = np.diff(hits, axis=1, prepend=0)
    value = (steps * np.nan_to_num(ratio(hits, images))).sum(1)
    return np.where(hits[:, -1] < images[:, -1], ratio(value, hits[:, -1]), np.nan)
