r"""Zero-shot accuracy: the area under the accuracy of classification while pixels are removed or inserted.

$$\frac{1}{s_n} \int_0^{s_n} [\text{the label is among the top } k] \, ds$$

for the image with the share $s$ of its pixels changed. It is classified among the labels of the data set. Pixels of the
original image, not of the model's input, are changed by the order of the map, which is resized bilinearly; pixels that
the model does not see come last. If the shorter side has over 640 pixels, a smaller copy is used.

Removal in the order ``highest`` is deletion (positive perturbation), in the order ``lowest`` negative perturbation. The
map may be that of the caption, of the true label, or of the label that the model predicts for the whole image.

Forward passes:
    ``levels``, 9, and those of the labels, once; another map per image for ``explained="predicted"``

Use it when:
    You compare with LeGrad, Grad-ECLIP, or other publications that classify perturbed images.

Avoid it when:
    The data have few labels, or the model classifies them badly: few hits are left to lose.

Source:
    Chefer et al., CVPR 2021; Bousselham et al., ICCV 2025 (LeGrad); Zhao et al., ICML 2024 (Grad-ECLIP)
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Annotated

import numpy as np
import torch
from jaxtyping import Float
from PIL import Image
from torch import Tensor

from nibt.core.perturbation import item_rng
from nibt.data.images import ImageInput
from nibt.metrics._labels import LabelMetric
from nibt.metrics.base import AreaMetric, MetricInput
from nibt.options import Levels, OneOf, Range, Seed, Share
from nibt.results.attribution import over_image

_LARGEST = 640  # of the shorter side, as in Grad-ECLIP's program
_ROUNDING = 1e-6  # of shares in binary numbers
_PIXELS = 5  # separates these draws from those of other purposes


@dataclass(frozen=True)
class ZeroShotAccuracy(AreaMetric, LabelMetric):
    """The area under the accuracy of classification while pixels are removed or inserted.

    Args:
        top: The label must be among so many labels with the highest similarity.
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
        image, region = metric_input.images[item], metric_input.side.inputs.regions[item]
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
