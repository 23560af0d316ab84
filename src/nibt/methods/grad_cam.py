r"""Grad-CAM on a hidden layer (Selvaraju et al., ICCV 2017, arXiv 1610.02391).

$$\text{score}_t = \text{relu}(\sum_c h_{tc} \, \partial S / \partial h_{tc})$$

Zhu et al. (ICLR 2025) compare this form. The variant ``textbook`` pools the gradient: $w_c$ is its mean over the units.

$$\text{score}_t = \text{relu}(\sum_c w_c h_{tc})$$

On a convolutional trunk, the default layer is the last feature map, as published.

Answers:
    Which tokens of a late layer raise the score, to first order.

Use it when:
    You explain a convolutional tower, or compare with published Grad-CAM maps. Use the variant ``textbook`` for
    these.

Avoid it when:
    You explain a transformer: ``along_path=true`` or ``nib`` are better on ``scenes`` for little more. A map of zeros
    means that no token of the layer raises the score.
"""

from dataclasses import dataclass
from typing import Annotated, ClassVar

from jaxtyping import Float
from torch import Tensor

from nibt.data.units import Grid, Units
from nibt.methods._gradient import GradientMethod
from nibt.options import Either
from nibt.types import Hidden, PerToken

_LAYER = {"layer": 0.75}


@dataclass(frozen=True)
class GradCAM(GradientMethod):
    """Rectified sums over the channels, weighted by the gradient.

    Args:
        weights: ``token`` weights each token by its own gradient, ``pooled`` by the mean gradient of the units.
    """

    paper = "Selvaraju et al., ICCV 2017, arXiv 1610.02391"
    category = "gradient"
    cost = "1 + about 3 x (1 - layer / depth)"
    signed = False
    layer_leaves_block = True
    variants: ClassVar = {
        **{name: {"image": _LAYER, "text": _LAYER} for name in ("default", "paper")},
        "textbook": {side: {**_LAYER, "weights": "pooled"} for side in ("image", "text")},
    }

    weights: Annotated[str, Either(("token", "pooled"))] = "token"

    def scores(self, difference: Hidden, gradient: Hidden, units: Units) -> PerToken:
        weights = gradient if self.weights == "token" else _pooled(gradient, units)
        return (difference * weights).sum(-1).relu()


def _pooled(gradient: Hidden, units: Units) -> Float[Tensor, "batch 1 width"]:
    """Compute the mean gradient of each channel over the rows that stand for a unit."""
    if isinstance(units, Grid):
        return gradient[:, list(units.tokens)].mean(1, keepdim=True)
    explained = units.explained.to(gradient)[..., None]
    return ((gradient * explained).sum(1) / explained.sum(1))[:, None]
