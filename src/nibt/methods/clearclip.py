r"""ClearCLIP: the last block as query-query attention alone (Lan et al., ECCV 2024, arXiv 2407.12442).

$$z = \text{softmax}(q q^T / \sqrt{d}) \, v W$$

$$\text{score}_t = S(\text{head}(z_t))$$

$z$ takes the place of what leaves the last block, without its residual connection and feed-forward network. $W$ is the
output projection, $d$ the width of a head. The score of a token is the target of its own embedding. If the head pools
by attention, the last block is the one before it.

Answers:
    Which patches, with those like them, are like the caption.

Use it when:
    You compare with open-vocabulary segmentation.

Avoid it when:
    You explain words (chance on ``scenes``), or need what the model does: it never has these states.
"""

from dataclasses import dataclass

from torch import Tensor

from nibt.core.side import Side
from nibt.methods._attention import LastBlockMethod, self_weights, weighted_values
from nibt.models._attention import AttentionRecord


@dataclass(frozen=True)
class ClearCLIP(LastBlockMethod):
    """The target of each token's embedding, from the query-query attention of the last block alone."""

    paper = "Lan et al., ECCV 2024, arXiv 2407.12442"
    bare = True

    def attend(self, side: Side, record: AttentionRecord) -> Tensor:
        return weighted_values(record, self_weights(record, record.query))


PLUGIN = ClearCLIP
