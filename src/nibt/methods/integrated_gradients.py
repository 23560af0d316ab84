r"""Integrated gradients on the first tokens (Sundararajan et al., ICML 2017, arXiv 1703.01365).

$$\text{score}_t = \frac{1}{n} \sum_{j=1}^{n} \sum_c (h - r)_{tc} \frac{\partial S}{\partial z_{tc}}(z_j)$$

$$z_j = r + \frac{j - 1/2}{n} (h - r)$$

The path is NIB's, but at the input of the tower: $h$ are the first tokens, and $r$ is their baseline.

Answers:
    How much each patch of the input, and each word, adds to the similarity, compared with an input without content.

Use it when:
    You need scores of the input itself rather than of a hidden layer: it keeps all axioms that the tests check.

Avoid it when:
    You are in a hurry, or explain a convolutional tower, whose first feature map gives the cells.
"""

from dataclasses import dataclass
from typing import ClassVar

from nibt.core.side import Side
from nibt.core.stages import PathStage
from nibt.methods._path import PathMethod, products
from nibt.options import Steps
from nibt.results.attribution import Attribution


@dataclass(frozen=True)
class IntegratedGradients(PathMethod):
    """Integrated gradients of the tower's first tokens.

    Args:
        baseline: ``blank`` or ``zero`` (the zero embedding).
    """

    paper = "Sundararajan et al., ICML 2017, arXiv 1703.01365"
    category = "path"
    linear = True
    cost = "2 + about 3 x steps"
    needs = ("stem",)
    variants: ClassVar = {
        "default": {"image": {}, "text": {}},
        "paper": {side: {"baseline": "zero"} for side in ("image", "text")},
    }

    quadrature: str = "midpoint"
    steps: Steps = 50

    def attribute(self, side: Side) -> Attribution:
        stage = PathStage.of_layer(side, None, self.baseline)
        scores, path = self.attribute_stages(stage, products)
        return Attribution.of_rows(scores, stage.cut.units, path)
