r"""Generic attention explainability (Chefer et al., ICCV 2021, arXiv 2103.15679).

$$R \leftarrow R + \text{relu}(\text{mean}_{\text{heads}} \, A_l \odot \partial S / \partial A_l) \, R$$

$$\text{score}_t = R_{rt}$$

$R$ starts as the identity, and changes in each block $l$. The variant ``textbook`` has the mean of the rectified
products, as published. A head that pools by attention multiplies $R$ by its own map. With ``blocks``, $R$ starts at the
first of the last blocks.

Answers:
    Which patches and words the tower attends to, through all blocks, where more attention raises the score.

Use it when:
    You want a good order of the pixels of a transformer at the cost of one gradient.

Avoid it when:
    You need a sign or sums. On ``scenes``, 95 % of its score is on special tokens, and its maps for two captions are
    alike (rank correlation 0.64).
"""

from dataclasses import dataclass
from typing import Annotated, ClassVar

from nibt.core.side import Side
from nibt.methods._attention import LastBlocks, gradients
from nibt.methods._checks import Either
from nibt.models._attention import AttentionMap, Weights
from nibt.types import PerToken


@dataclass(frozen=True)
class GAE(LastBlocks):
    """Relevance propagated through the attentions of the blocks.

    Args:
        rectified: Where negative values are set to 0: in the ``mean`` over the heads, or in each of the ``heads``.

    """

    paper = "Chefer et al., ICCV 2021, arXiv 2103.15679"
    category = "attention"
    cost = "1 + about 3 x blocks / depth"
    signed = False
    variants: ClassVar = {
        "default": {"image": {}, "text": {}},
        "textbook": {side: {"rectified": "heads"} for side in ("image", "text")},
    }

    rectified: Annotated[str, Either(("mean", "heads"))] = "mean"

    def scores(self, side: Side) -> PerToken:
        attentions = side.attentions(self.first_layer(side.tower.depth))
        weights = [record.weights for record in attentions.all]
        products = zip(weights, gradients(side, attentions, weights), strict=True)
        return attentions.propagate([self._map(weight * gradient) for weight, gradient in products])

    def _map(self, product: Weights) -> AttentionMap:
        return product.mean(1).relu() if self.rectified == "mean" else product.relu().mean(1)


PLUGIN = GAE
