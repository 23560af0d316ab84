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
from nibt.methods._attention import AttentionMethod
from nibt.methods._rows import score_rows
from nibt.methods._self_attention import self_weights, weighted_values
from nibt.models._attention import AttentionRecord
from nibt.types import PerToken


@dataclass(frozen=True)
class SCLIP(AttentionMethod):
    """The target of each token's embedding, with query-query and key-key attention in the last block."""

    paper = "Wang et al., ECCV 2024, arXiv 2312.01597"
    category = "attention"
    cost = "1 + about 1 / depth"

    def scores(self, side: Side) -> PerToken:
        replayed = side.trace.with_attention(side.tower.depth - 1, _correlated)
        return score_rows(side, replayed.stream, side.score)


def _correlated(record: AttentionRecord) -> Tensor:
    """Compute the sum of the attentions of queries and of keys, whose weights add up to 2."""
    weights = self_weights(record, record.query) + self_weights(record, record.key)
    return weighted_values(record, weights)


PLUGIN = SCLIP
