r"""CLIP Surgery: attention of values with values, without what all captions share (Li et al., arXiv 2304.05653).

$$z = h_k + \sum_{l \geq k} \text{softmax}(v_l v_l^T / \sqrt{d}) \, v_l W_l$$

$$\text{score}_t = \cos(z_t, \text{caption}) - \cos(z_t, \text{caption without words})$$

$h_k$ enters the first of the last blocks. The values $v_l$ of block $l$ are those of the unchanged model; $W_l$ is the
output projection, and $d$ the width of a head. On captions, a blank image takes the place of the caption without words.
The map is one of cosines with any target. With the target ``difference`` or ``softmax``, the captions $c_1$ to
$c_{n-1}$ of ``against`` are compared with the caption $c_0$:

$$\text{score}_t = w_0 \cos(z_t, c_0) - \frac{1}{n} \sum_i w_i \cos(z_t, c_i)$$

$$w_i = n \, \text{softmax}_i(2 \cos(\text{image}, c_i))$$

Answers:
    Which patches are more like the caption than like a caption without words, or than like the other captions.

Use it when:
    You explain images with labels, or compare with the published CLIP Surgery. It needs no gradients.

Avoid it when:
    You want to know why the model answers as it does: the second path is not in the model. Its scores do not add up.
"""

from collections.abc import Callable
from dataclasses import dataclass, field

import torch
from torch import Tensor

from nibt.core.side import Side
from nibt.methods._attention import LastBlocks, score_rows, self_weights, weighted_values
from nibt.models._attention import AttentionRecord
from nibt.models.base import Tower
from nibt.options import Blocks
from nibt.types import Embedding, PerExample, PerToken

_SHARPNESS = 2.0
"""The factor of the cosines in the weights of captions, as published."""


@dataclass(frozen=True)
class CLIPSurgery(LastBlocks):
    """Similarities on a second path of value-value attention, without their redundant part.

    Args:
        blocks: The number of last blocks with a second path.
    """

    paper = "Li et al., arXiv 2304.05653"
    category = "attention"
    cost = "1 + about blocks / depth"

    blocks: Blocks | None = field(default=6, kw_only=True)

    def scores(self, side: Side) -> PerToken:
        first, depth = self.first_layer(side.tower.depth), side.tower.depth
        added = [side.trace.with_attention(number, _among_values).added for number in range(first, depth)]
        state = side.cut(first).hidden  # with what the model adds after later blocks beside it, as in DeepStack
        stream = state.unflatten(-1, (-1, added[0].shape[-1])).sum(-2) + torch.stack(added).sum(0)
        return score_rows(side, stream, _without_redundancy(side))


def _among_values(record: AttentionRecord) -> Tensor:
    """Compute the attention of values with values, with the mask of the block."""
    return weighted_values(record, self_weights(record, record.value))


def _without_redundancy(side: Side) -> Callable[[Embedding], PerExample]:
    """Return the function that computes scores from the embeddings of tokens."""
    compare = side.similarities or (lambda embedding: side.score(embedding)[..., None])
    labels = compare(side.trace.embedding)
    if labels.shape[-1] > 1:
        weights = labels.shape[-1] * (_SHARPNESS * labels).softmax(-1)

        def less_the_mean(embedding: Embedding) -> PerExample:
            weighted = weights.float() * compare(embedding).float()
            return weighted[..., 0] - weighted.mean(-1)

        return less_the_mean
    other_tower: Tower = side.dual_encoder.text if side.tower.modality == "image" else side.dual_encoder.image
    empty, similarity = other_tower.encode(other_tower.empty_inputs()), side.dual_encoder.seen_from(side.tower.modality)

    def difference(embedding: Embedding) -> PerExample:
        exact = embedding.to(torch.promote_types(embedding.dtype, torch.float32))  # the cosines are nearly equal
        return compare(exact)[..., 0] - similarity(exact, empty.to(exact))

    return difference
