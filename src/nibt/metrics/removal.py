"""Metrics of what is lost by removal: of the objects of an image, of its highest units, or of pixels."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import partial
from typing import Annotated

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float
from PIL import Image
from torch import Tensor

from nibt.core.inpainting import filled_in
from nibt.core.perturbation import item_rng, masker
from nibt.core.side import Side
from nibt.data.ground_truth import GroundTruth
from nibt.data.images import ImageInput, Region
from nibt.data.units import Grid
from nibt.metrics._labels import LabelMetric
from nibt.metrics._perturbation import PerturbationMetric, ranks
from nibt.metrics.base import AreaMetric, Candidates, MetricInput, PixelMask, ShareMetric
from nibt.models.base import ImageTower
from nibt.options import Levels, OneOf, Range, Seed, Share
from nibt.results.pixels import over_image
from nibt.results.segment_sums import segment_sums
from nibt.types import Embedding, PerExample

Numbers = Float[np.ndarray, " object"]


@dataclass(frozen=True)
class Removal(ShareMetric, name="removal"):
    """Removal: whether the object with the largest sum is the one whose removal lowers the score most, 1 or 0.

    Each object that the caption names is removed alone: the data set draws the image again without it (``scenes``), or
    the object is filled in as by ``road``. In the sum over an object, a patch counts by the share of its area on the
    object. Images with fewer than two visible named objects have no value. If several objects have the largest sum, the
    value is the share of them whose removal lowers the score most. Chance is 1 / number of objects.

    Range:
        0 or 1

    Forward passes:
        1 per named object of the image, once for all methods

    Use it when:
        You want to know which object contributes more, and not only whether scores are on objects.

    Avoid it when:
        Captions name one object. Models that take patches or tiles instead of an image (SigLIP 2 NaFlex) have a value
        only if the data set draws images again.

    Source:
        nibt; removal by drawing again: Arras et al., Information Fusion 81, 2022 (CLEVR-XAI); Hesse et al., ICCV 2023
        (FunnyBirds, single deletion)
    """

    def __call__(self, metric_input: MetricInput) -> PerExample:
        """Compute the shares of the objects with the largest sum whose drop is the largest; NaN for equal drops."""
        numbers = []
        for sums, drops in self.effects(metric_input):
            is_known = len(sums) > 1 and np.isfinite(drops).all() and np.ptp(drops) > 0
            numbers.append((drops == drops.max())[sums == sums.max()].mean() if is_known else torch.nan)
        return torch.tensor(numbers, dtype=torch.float32)

    def effects(self, metric_input: MetricInput) -> list[tuple[Numbers, Numbers]]:
        """Return, for the named objects of each image, the sums of the map and the drops of the score by removal.

        Drops are NaN if the tower takes no image in which an object could be filled in.
        """
        side = metric_input.side
        truths = metric_input.truths
        key = "embeddings without each object"
        embeddings = metric_input.once_for_all_methods(key, partial(_embeddings_without_objects, side, truths))
        drops = torch.stack([side.value() - side.score(removed) for removed in embeddings]) if embeddings else None
        results: list[tuple[Numbers, Numbers]] = []
        for item, truth in enumerate(truths):
            grid = metric_input.attribution[item].grid.cpu().double().numpy()
            sums = np.array([_sum(grid, mask) for mask in truth.objects])
            fell = np.array([]) if drops is None else drops[: len(sums), item].cpu().double().numpy()
            fillable = side.inputs.values.ndim == 4
            measurable = [fillable or without is not None for without in truth.without]
            results.append((sums, np.where(measurable, fell, np.nan)))

        return results


def _sum(grid: Float[np.ndarray, "row column"], mask: PixelMask) -> float:
    """Return the sum of a map over an object."""
    height, width = mask.shape
    labels = mask.int().numpy()
    return float(segment_sums(grid, Region(0.0, 0.0, float(width), float(height)), (width, height), labels)[1])


def _embeddings_without_objects(side: Side, truths: tuple[GroundTruth, ...]) -> list[Tensor]:
    """Return the embeddings of images without their first named object, then without their second, and so on."""
    most = max((len(truth.objects) for truth in truths), default=0)
    return [
        side.tower.encode(
            replace(side.inputs, values=torch.stack([_without(side, *row, place) for row in enumerate(truths)]))
        )
        for place in range(most)
    ]


def _without(side: Side, item: int, truth: GroundTruth, place: int) -> Tensor:
    """Return the tower's input for an image without one of its named objects; the whole one if it has fewer."""
    tower = side.tower
    values = side.inputs.values[item]
    assert isinstance(tower, ImageTower)
    if place >= len(truth.objects):
        return values

    draw = truth.without[place]
    if draw is not None:
        return tower.prepare([draw()]).values[0].to(values)
    if values.ndim != 3:
        return values

    mask = F.adaptive_max_pool2d(truth.objects[place][None, None].float(), tower.extent(side.inputs))
    removed = F.max_pool2d(mask, 3, 1, 1)[0, 0].bool().numpy()  # resized edges have colors of the object, too
    return filled_in(values, removed)


_MARGIN = 1e-6  # smaller differences of similarities are rounding errors


@dataclass(frozen=True)
class RetrievalAfterRemoval(PerturbationMetric, name="retrieval_after_removal"):
    """Retrieval after removal: whether a retrieved pair is not retrieved without its highest units, 1 or 0.

    The pair competes with the other pairs of the call. Pairs that are not retrieved before the removal have no value,
    so the mean is the share of retrieved pairs that are lost.

    The units with the highest scores are removed. With ``corrupted="query"``, the image without them is the query for
    its caption, and the caption without them for its image. With ``corrupted="candidate"``, the whole caption is the
    query for the image without them. Equal images or captions do not compete.

    Range:
        0 or 1

    Forward passes:
        1, and those of all images and captions of the call, once

    Use it when:
        You measure faithfulness by a task, retrieval. Compare it with the control ``random``.

    Avoid it when:
        The call (in a benchmark, a chunk of ``batch_size``) has few pairs: all are retrieved, also after the removal.

    Source:
        AdaIB (ICLR 2026 submission), which calls it ROAR and reports (acc - acc after) / acc

    Args:
        corrupted: The side without its highest units: ``query`` or ``candidate``.
        image_share: The share of patches that are removed.
        text_share: The share of the tokens of words that are removed, at least one.
    """

    better = "higher"
    bounds = (0.0, 1.0)
    corrupted: Annotated[str, OneOf(("query", "candidate"))] = "query"
    image_share: Share = 0.25
    text_share: Share = 0.1

    def __call__(self, metric_input: MetricInput) -> PerExample:
        side = metric_input.side
        units = metric_input.attribution.units
        if metric_input.candidates is None:
            return torch.full((len(side.inputs),), torch.nan, dtype=torch.float32)

        hits = self._hits(metric_input.once("candidates", metric_input.candidates))
        order, counts = ranks(metric_input)
        share = self.image_share if isinstance(units, Grid) else self.text_share
        keep = (order >= (share * counts).round().clamp_min(1)[:, None]).float()
        after = masker(replace(side, score=hits), units, hide=self.hide, seed=self.seed)(keep).cpu()
        before = hits(side.trace.embedding).cpu()
        return torch.where(before == 1, 1 - after, torch.nan).float()

    def _hits(self, candidates: Candidates) -> Callable[[Embedding], PerExample]:
        """Return a function of embeddings: 1 where the pair is retrieved, 0 where it is not, NaN without candidates."""
        similarity = candidates.similarity
        partners = candidates.partners.detach().float()

        def hit(embedding: Embedding, row: int) -> PerExample:
            partner = partners[row]
            vectors = embedding.detach().float()
            if self.corrupted == "query":
                others = similarity.to_each(vectors, candidates.opposite[row].float())
            else:
                others = similarity(candidates.same_side[row].float(), partner)

            if not others.shape[-1]:
                return torch.full(vectors.shape[: vectors.ndim - similarity.item_ndim], torch.nan, dtype=torch.float32)
            return (similarity(vectors, partner) > others.amax(-1) + _MARGIN).float()

        def hits(embeddings: Embedding) -> PerExample:
            rows = embeddings.unbind(-1 - similarity.item_ndim)
            return torch.stack([hit(embedding, row) for row, embedding in enumerate(rows)], -1)

        return hits


_LARGEST = 640  # of the shorter side, as in Grad-ECLIP's program
_ROUNDING = 1e-6  # of shares in binary numbers
_PIXELS = 5  # separates these draws from those of other purposes


@dataclass(frozen=True)
class ZeroShotAccuracy(AreaMetric, LabelMetric, name="zero_shot_accuracy"):
    r"""Zero-shot accuracy: the area under the accuracy of classification while pixels are removed or inserted.

    $$\frac{1}{s_n} \int_0^{s_n} [\text{the label is among the top } k] \, ds$$

    for the image with the share $s$ of its pixels changed. It is classified among the labels of the data set. Pixels of
    the original image, not of the model's input, are changed by the order of the map, which is resized bilinearly;
    pixels that the model does not see come last. If the shorter side has over 640 pixels, a smaller copy is used.

    Removal in the order ``highest`` is deletion (positive perturbation), in the order ``lowest`` negative perturbation.
    The map may be that of the caption, of the true label, or of the label that the model predicts for the whole image.

    Forward passes:
        ``levels``, 9, and those of the labels, once; another map per image for ``explained="predicted"``

    Use it when:
        You compare with LeGrad, Grad-ECLIP, or other publications that classify perturbed images.

    Avoid it when:
        The data have few labels, or the model classifies badly: then the accuracy can hardly decrease.

    Source:
        Chefer et al., CVPR 2021; Bousselham et al., ICCV 2025 (LeGrad); Zhao et al., ICML 2024 (Grad-ECLIP)

    Args:
        top: The label must be among this number of labels with the highest similarity.
        change: ``remove`` replaces pixels by ``fill``; ``insert`` begins with an image of ``fill``.
        order: The pixels that are changed first: those with the ``highest`` or the ``lowest`` scores.
        fill: ``black``, or ``random`` colors.
        share: The largest share of changed pixels.
        levels: The number of steps from 0 to ``share``, of equal size.
        explained: The map that orders the pixels: that of the ``caption``, of the ``true`` label, or of the label that
            the model ``predicted``.
        seed: The seed of random colors.
    """

    better = "lower"
    bounds = (0.0, 1.0)
    sides = ("image",)
    top: Annotated[int, Range(1, 1000)] = 1
    change: Annotated[str, OneOf(("remove", "insert"))] = "remove"
    order: Annotated[str, OneOf(("highest", "lowest"))] = "highest"
    fill: Annotated[str, OneOf(("black", "random"))] = "black"
    share: Share = 0.9
    levels: Levels = 9
    explained: Annotated[str, OneOf(("caption", "true", "predicted"))] = "caption"
    seed: Seed = 0

    def __post_init__(self) -> None:
        super().__post_init__()
        if (self.change == "remove") != (self.order == "highest"):
            object.__setattr__(self, "better", "higher")

    def curve(self, metric_input: MetricInput) -> Float[Tensor, "batch level"]:
        hits = torch.full((len(metric_input.images), self.levels + 1), torch.nan, dtype=torch.float64, device="cpu")
        labels = {item: truth.label for item, truth in enumerate(metric_input.truths) if truth.label is not None}
        if labels:
            assert metric_input.embed is not None
            grids = self._grids(metric_input)
            for item, label in labels.items():
                changed = [ImageInput(image, "") for image in self._changed(metric_input, item, grids[item])]
                similarities = self.similarities(metric_input, metric_input.embed("image", changed))
                best = similarities.topk(min(self.top, similarities.shape[-1]), -1).indices
                hits[item] = (best == label).any(-1).double()

        return hits

    def _grids(self, metric_input: MetricInput) -> Float[Tensor, "batch row column"]:
        """Return the maps that order the pixels."""
        if self.explained == "caption":
            return metric_input.attribution.grid.detach().float().cpu()

        labels = [truth.label or 0 for truth in metric_input.truths]
        if self.explained == "predicted":
            labels = self.similarities(metric_input, metric_input.side.trace.embedding).argmax(-1).tolist()
        embeddings = self.embeddings(metric_input, self.labels(metric_input))[labels]
        key = "maps", self.template, tuple(labels)
        return metric_input.once(key, lambda: self.maps(metric_input, embeddings))

    def _changed(
        self, metric_input: MetricInput, item: int, grid: Float[Tensor, "row column"]
    ) -> Iterator[Image.Image]:
        """Yield the image with each share of its pixels changed."""
        image = metric_input.images[item]
        region = metric_input.side.inputs.regions[item]
        scale = min(1.0, _LARGEST / min(image.size))
        width, height = (max(1, int(side * scale)) for side in image.size)
        colors = image.pil_image.convert("RGB")
        pixels = np.asarray(colors if scale == 1 else colors.resize((width, height)))
        scores = over_image(grid, region, image.size, (width, height), -np.inf)
        sign = 1 if self.order == "highest" else -1
        order = np.argsort(np.where(np.isneginf(scores), np.inf, -sign * scores).ravel(), kind="stable")
        filled = np.zeros_like(pixels)
        if self.fill == "random":
            generator = item_rng(metric_input.side.inputs, item, self.seed, _PIXELS)
            filled = generator.integers(0, 256, pixels.shape, np.uint8)

        before, after = (pixels, filled) if self.change == "remove" else (filled, pixels)
        for share in np.linspace(0, self.share, self.levels + 1):
            is_changed = np.zeros(height * width, bool)
            is_changed[order[: int(share * height * width + _ROUNDING)]] = True
            yield Image.fromarray(np.where(is_changed.reshape(height, width, 1), after, before))
