"""Metrics of faithfulness: what the score does while units are removed or inserted by a map."""

import math
from dataclasses import dataclass
from typing import Annotated

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float
from torch import Tensor

from nibt.core.inpainting import interpolated
from nibt.core.perturbation import item_rng, masker, score_of_pixels
from nibt.data.units import Grid
from nibt.metrics._perturbation import CurveMetric, PerturbationMetric, ranks
from nibt.metrics.base import AreaMetric, MetricInput
from nibt.models.base import ImageTower
from nibt.options import NotNegative, Range, Samples, Seed
from nibt.types import PerExample


@dataclass(frozen=True)
class Deletion(CurveMetric, name="deletion"):
    """Deletion: the area under the score while units are removed by decreasing attribution score.

    A faithful map has a small area. Ties are broken by position.

    Range:
        that of the score

    Forward passes:
        ``levels``, 10

    Use it when:
        You want faithfulness to the model, without ground truth.

    Avoid it when:
        You can measure with one ``hide`` only: the model was not trained on images with removed parts, so a map of what
        confuses the model most has a good value, too.

    Source:
        Petsiuk et al., BMVC 2018 (RISE)
    """

    better = "lower"
    inserted = False


@dataclass(frozen=True)
class Insertion(CurveMetric, name="insertion"):
    """Insertion: the area under the score while units are inserted by decreasing attribution score.

    A faithful map has a large area.

    Range:
        that of the score

    Forward passes:
        ``levels``, 10

    Use it when:
        You measure faithfulness to the model, without ground truth. Report it with ``deletion``.

    Avoid it when:
        As for ``deletion``.

    Source:
        Petsiuk et al., BMVC 2018 (RISE)
    """

    better = "higher"
    inserted = True


_NOISE = 4  # separates these draws from those of other purposes


@dataclass(frozen=True)
class ROAD(AreaMetric, name="road"):
    """ROAD: the area under the score while units are removed by decreasing score, and filled in from their neighbors.

    Each removed pixel becomes the weighted mean of its eight neighbors (weights 1/6 beside and 1/12 across a corner).
    Some of these are removed, too, so all are computed together, from a sparse linear system. Then noise is added. So
    the image does not show the shape of what was removed, as it may with ``deletion``.

    A faithful map has a small area. Ties are broken by position. The last share is 1 - 1 / ``levels``, since the pixels
    of a whole image cannot be filled in from others.

    Range:
        that of the score

    Forward passes:
        ``levels`` - 1, 9

    Use it when:
        You measure faithfulness to the model, and edges of removed patches may disturb it. Also report ``deletion``.

    Avoid it when:
        Cells are large: they are reconstructed from the few pixels around them, which is unreliable. Large images take
        seconds per level. Models that take patches or tiles instead of an image (SigLIP 2 NaFlex) have no value.

    Source:
        Rong et al., ICML 2022

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
        side = metric_input.side
        units = metric_input.attribution.units
        tower = side.tower
        values = side.inputs.values
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


_MASKS = 3  # separates these draws from those of the backdrops


@dataclass(frozen=True)
class Infidelity(PerturbationMetric, name="infidelity"):
    r"""Infidelity: the squared error of scores as predictions of the drop when units are removed.

    $$\text{infidelity} = \text{mean}_M \left(\sum_{u \in M} \text{score}_u - \text{drop}_M\right)^2$$

    $M$ are the units that a random mask removes, and $\text{drop}_M = S - S(\text{without } M)$. A mask draws a share
    uniformly from [0, 1] and removes each unit with that probability, so that few units are removed as often as many.
    The exact attribution of a linear model has infidelity 0.

    Range:
        0 and up, squared units of the score

    Forward passes:
        ``masks``, 64

    Use it when:
        You use the sizes of the scores, not only their order.

    Avoid it when:
        The scores of the map are not parts of the target, as with attention; there, use ``scaled``.

    Source:
        Yeh et al., NeurIPS 2019, arXiv 1901.09392, definition 2.1

    Args:
        masks: The number of masks.
        scaled: Whether each map is multiplied by the factor of at least 0 that minimizes its infidelity, so that only
            the shape of the map counts.
    """

    better = "lower"
    bounds = (0.0, math.inf)
    masks: Samples = 64
    scaled: bool = False

    def __call__(self, metric_input: MetricInput) -> PerExample:
        scores = metric_input.attribution.scores.float()
        hidden = self.hidden(metric_input).to(scores.device)
        score = masker(metric_input.side, metric_input.attribution.units, hide=self.hide, seed=self.seed)
        drop = (metric_input.side.value() - score(1 - hidden.float())).float()
        predicted = (hidden * scores).sum(-1)
        if self.scaled:
            factor = ((predicted * drop).sum(0) / predicted.square().sum(0).clamp_min(1e-30)).clamp_min(0)
            predicted = predicted * factor

        return (predicted - drop).square().mean(0).cpu()

    def hidden(self, metric_input: MetricInput) -> Bool[Tensor, "mask batch unit"]:
        """Draw the units that each mask removes."""
        units, (count, width) = metric_input.attribution.units, metric_input.attribution.scores.shape
        explained = torch.ones(count, width, dtype=torch.bool) if isinstance(units, Grid) else units.explained.cpu()
        hidden = torch.zeros(self.masks, count, width, dtype=torch.bool)
        for item, players in enumerate(explained):
            drawn = item_rng(metric_input.side.inputs, item, self.seed, _MASKS)
            shares = drawn.random((self.masks, 1))
            removed = drawn.random((self.masks, int(players.sum()))) < shares
            hidden[:, item, players] = torch.from_numpy(np.ascontiguousarray(removed))

        return hidden
