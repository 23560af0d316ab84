"""ROAD: the area under the score while units are removed by decreasing score, and filled in from their neighbors.

Each removed pixel is the weighted mean of its eight neighbors (weights 1/6 beside and 1/12 across a corner), of which
the removed ones are unknown, too: a sparse linear system. Then noise is added. So the image does not show the shape of
what was removed, as it may with ``deletion``.

A faithful map has a small area. Ties are broken by position. The last share is
1 - 1 / ``levels``, since the pixels of a whole image cannot be filled in from others.

Range:
    that of the score

Forward passes:
    ``levels`` - 1, 9

Use it when:
    You want faithfulness to the model, and doubt the edges of removed patches. Read it beside ``deletion``.

Avoid it when:
    Cells are large: they are reconstructed from the few pixels around them, which is unreliable. Large images take
    seconds per level. Models that take patches or tiles instead of an image (SigLIP 2 NaFlex) have no value.

Source:
    Rong et al., ICML 2022
"""

from dataclasses import dataclass
from typing import Annotated

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float
from torch import Tensor

from nibt.core.interpolation import interpolated
from nibt.core.perturbation import item_rng, score_of_pixels
from nibt.metrics._perturbation import ranks
from nibt.metrics.base import AreaMetric, MetricInput
from nibt.models.base import ImageTower
from nibt.options import NotNegative, Range, Seed

_NOISE = 4  # separates these draws from those of other purposes


@dataclass(frozen=True)
class ROAD(AreaMetric):
    """The area under the score as a function of the share of removed units, which are filled in from their neighbors.

    Args:
        levels: The number of shares: 0, 1 / levels and so on, to 1 - 1 / levels.
        noise: The standard deviation of the noise on filled pixels, in normalized units.
        seed: The seed of the noise.
    """

    better = "lower"
    sides = ("image",)
    levels: Annotated[int, Range(2, 1000)] = 10
    noise: NotNegative = 0.01
    seed: Seed = 0

    def curve(self, metric_input: MetricInput) -> Float[Tensor, "batch level"]:
        side, units = metric_input.side, metric_input.attribution.units
        tower, values = side.tower, side.inputs.values
        assert isinstance(tower, ImageTower)
        if values.ndim != 4:  # patches or tiles instead of an image
            return torch.full((len(values), self.levels), torch.nan, dtype=torch.float32)
        order, counts = ranks(metric_input)
        scores = [side.value()]
        for share in np.arange(1, self.levels) / self.levels:
            keep = (order >= (share * counts).round()[:, None]).float()
            pixels = F.interpolate(units.unfold(keep)[None], tower.extent(side.inputs), mode="nearest")  # pyright: ignore
            scores.append(score_of_pixels(side, pixels, self._filled(metric_input, pixels[0] < 0.5))[0])
        return torch.stack(scores).float().T

    def _filled(self, metric_input: MetricInput, removed: Bool[Tensor, "batch height width"]) -> Tensor:
        """Return the images with the removed pixels filled in."""
        inputs = metric_input.side.inputs
        images = inputs.values.detach().cpu().double().numpy().copy()
        for item, (image, mask) in enumerate(zip(images, removed.cpu().numpy(), strict=True)):
            image[:, mask] = interpolated(image, mask)
            drawn = item_rng(inputs, item, self.seed, _NOISE).standard_normal(image.shape)
            image[:, mask] += self.noise * drawn[:, mask]
        return torch.from_numpy(images).to(inputs.values)
