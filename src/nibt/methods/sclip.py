r"""SCLIP: correlative self-attention in the last block (Wang et al., ECCV 2024, arXiv 2312.01597).

$$A = \text{softmax}(q q^T / \sqrt{d}) + \text{softmax}(k k^T / \sqrt{d})$$

$$\text{score}_t = S(\text{head}(z_t))$$

$z$ leaves the last block, whose attention is replaced by $A$; $d$ is the width of a head. The score of a token is the
target of its own embedding. If the head pools by attention, the last block is the one before it.

Answers:
    Which patches, with those like them, are like the caption.

Use it when:
    You compare with open-vocabulary segmentation.

Avoid it when:
    You need an explanation: the attention is not the model's, and maps highlight the background, as with ``maskclip``.
"""

from dataclasses import dataclass

from torch import Tensor

from nibt.core.side import Side
from nibt.methods._attention import LastBlockMethod, self_weights, weighted_values
from nibt.models._attention import AttentionRecord


@dataclass(frozen=True)
class SCLIP(LastBlockMethod):
    """The target of each token's embedding, with query-query and key-key attention in the last block."""

    paper = "Wang et al., ECCV 2024, arXiv 2312.01597"

    def attend(self, side: Side, record: AttentionRecord) -> Tensor:
        """Compute the output of an attention whose weights add up to 2."""
        return weighted_values(record, self_weights(record, record.query) + self_weights(record, record.key))


PLUGIN = SCLIP
