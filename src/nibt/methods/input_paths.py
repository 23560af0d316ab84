"""Methods with a path that starts or ends at the input tokens of the tower."""

from dataclasses import dataclass
from typing import ClassVar

import torch

from nibt.core.side import Side
from nibt.methods._path import PathMethod, PathStage, products
from nibt.methods.base import Method, both_sides
from nibt.options import Positive, Steps
from nibt.results.attribution import Attribution


@dataclass(frozen=True)
class IntegratedGradients(PathMethod, name="integrated_gradients"):
    r"""Integrated gradients of the input tokens (Sundararajan et al., ICML 2017, arXiv 1703.01365).

    $$\text{score}_t = \frac{1}{n} \sum_{j=1}^{n} \sum_c (h - r)_{tc} \frac{\partial S}{\partial z_{tc}}(z_j)$$

    $$z_j = r + \frac{j - 1/2}{n} (h - r)$$

    The path is NIB's, but at the input of the tower: $h$ are the input tokens (the embeddings of patches with their
    positions, or of words), and $r$ is their baseline.

    Shows:
        How much each patch and each word of the input raises or lowers the similarity, compared with a blank input.

    Use it when:
        You need scores of the input itself rather than of a hidden layer. In the tests of
        [axioms](../../explanation/axioms.md), the default violates none of them; the variant ``paper`` violates three.

    Avoid it when:
        You need a fast method, or small gaps: with 50 steps, the median completeness gap on 100 scenes is 9 %. On a
        convolutional tower, the map has a score for each cell of the first feature map.

    Args:
        baseline: ``blank`` or ``zero`` (the zero embedding).
    """

    paper = "Sundararajan et al., ICML 2017, arXiv 1703.01365"
    category = "path"
    linear = True
    cost = "2 + about 3 x steps"
    needs = ("stem",)
    variants: ClassVar = both_sides(default={}, paper={"baseline": "zero"})

    quadrature: str = "midpoint"
    steps: Steps = 50

    def attribute(self, side: Side) -> Attribution:
        stage = PathStage.of_layer(side, None, self.baseline)
        scores, path = self.attribute_stages(stage, products)
        return Attribution.of_rows(scores, stage.cut.units, path)


@dataclass(frozen=True)
class MFABA(Method, name="mfaba"):
    r"""MFABA: gradients along an adversarial path (Zhu et al., AAAI 2024, arXiv 2312.13630).

    $$x_{j+1} = x_j - \text{stride} \, \text{sign}(\partial S / \partial x_j)$$

    $$\text{score}_t = -\sum_j \sum_c (x_{j+1} - x_j)_{tc} \, (\partial S / \partial x_j)_{tc}$$

    $x_0$ are the input tokens: the embeddings of patches with their positions, or of words. Each step is against the
    gradient, so each term of the sum is the stride times an absolute gradient, which is never negative.

    Shows:
        How sensitive the target is to each input token, along an adversarial path, which lowers the target.

    Use it when:
        You compare with the table of NIB's paper.

    Avoid it when:
        You need signs, or the place of an object: on ``scenes``, with one view, its pointing is 0.48 (100 scenes;
        ``nib``: 0.87 on 500 scenes).

    Args:
        steps: The number of steps.
        stride: The length of a step in each coordinate.
    """

    paper = "Zhu et al., AAAI 2024, arXiv 2312.13630"
    category = "path"
    cost = "1 + about 3 x steps"
    signed = False
    uses_gradients = True
    needs = ("stem",)
    variants: ClassVar = both_sides(default={}, paper={})

    steps: Steps = 10
    stride: Positive = 0.01

    def attribute(self, side: Side) -> Attribution:
        stem = side.stem()
        states = stem.hidden[None]
        scores = torch.zeros(stem.hidden.shape[:2], dtype=torch.float32, device=stem.hidden.device)
        for _ in range(self.steps):
            gradient = side.gradient(stem, states)
            step = -self.stride * gradient.sign()
            scores = scores - (step * gradient)[0].sum(-1)
            states = states + step

        return Attribution.of_rows(scores, stem.units)
