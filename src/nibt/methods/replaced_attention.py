"""Methods that replace the attention of the last blocks, and score each token by its own embedding."""

from abc import abstractmethod
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from typing import ClassVar

import torch
from jaxtyping import Float
from torch import Tensor

from nibt.core.side import Side
from nibt.data.units import Grid, Words, cells_of
from nibt.errors import Unsupported
from nibt.methods._attention import AttentionMethod, LastBlocks, score_rows, self_weights, weighted_values
from nibt.models._attention import AttentionRecord, pools_by_attention, with_attention
from nibt.models.base import Tower
from nibt.options import Blocks, Positive
from nibt.types import Embedding, PerExample, PerToken


class LastBlockMethod(AttentionMethod):
    """Base class of methods that score each row alone, after a last block with another attention."""

    category = "attention"
    cost = "1 + about 1 / depth"
    bare: ClassVar[bool] = False
    """Whether the residual connection and the feed-forward network of the block are left out."""

    @abstractmethod
    def attend(self, side: Side, record: AttentionRecord) -> Tensor:
        """Compute the output of the attention."""

    def scores(self, side: Side) -> PerToken:
        replayed = with_attention(side.trace, side.tower.depth - 1, partial(self.attend, side))
        return score_rows(side, replayed.added if self.bare else replayed.stream, side.score)


@dataclass(frozen=True)
class MaskCLIP(LastBlockMethod, name="maskclip"):
    r"""MaskCLIP: the similarity of each patch's own value (Zhou et al., ECCV 2022, arXiv 2112.01071).

    $$\text{score}_t = S(\text{head}(z_t))$$

    $z_t$ is the state of token $t$ after the last block, in which the values replace the output of the attention. So
    the block no longer mixes tokens; the rest of it is unchanged. If the head pools by attention, the pooling is the
    last attention, and the head is applied to each patch alone. The score of a patch is the target of its own
    embedding, such as ``cos(patch, caption)``, and not a part of the target of the image.

    Shows:
        Which patches have values in the last attention that are similar to the caption.

    Use it when:
        You compare with open-vocabulary segmentation, or need a map without gradients, even in half precision.

    Avoid it when:
        You need an explanation: the map often highlights the background instead of the named object, even on
        ``scenes``, and a part of the cosine is the same for all patches of an image. ``clip_surgery`` subtracts what
        is the same for all captions; its pointing on 500 scenes is 0.61 [0.57, 0.65].
    """

    paper = "Zhou et al., ECCV 2022, arXiv 2112.01071"

    def scores(self, side: Side) -> PerToken:
        if pools_by_attention(side.trace):  # the head of a row alone is its value
            return score_rows(side, side.cut(side.tower.depth).hidden, side.score)
        return super().scores(side)

    def attend(self, side: Side, record: AttentionRecord) -> Tensor:
        return record.value


@dataclass(frozen=True)
class SCLIP(LastBlockMethod, name="sclip"):
    r"""SCLIP: correlative self-attention in the last block (Wang et al., ECCV 2024, arXiv 2312.01597).

    $$A = \text{softmax}(q q^T / \sqrt{d}) + \text{softmax}(k k^T / \sqrt{d})$$

    $$\text{score}_t = S(\text{head}(z_t))$$

    $z$ is the state after the last block, whose attention weights are replaced by $A$; $d$ is the width of an attention
    head. The score of a token is the target of its own embedding. If the head pools by attention, the last block is the
    one before the pooling.

    Shows:
        Which patches are similar to the caption, if each patch is averaged with the patches that are similar to it.

    Use it when:
        You compare with open-vocabulary segmentation.

    Avoid it when:
        You need an explanation: the attention is not that of the model, and maps often highlight the background, like
        those of ``maskclip``: on 100 scenes, its energy is 0.03 (a map of ones: 0.05).
    """

    paper = "Wang et al., ECCV 2024, arXiv 2312.01597"

    def attend(self, side: Side, record: AttentionRecord) -> Tensor:
        """Compute the output of an attention whose weights add up to 2."""
        return weighted_values(record, self_weights(record, record.query) + self_weights(record, record.key))


@dataclass(frozen=True)
class ClearCLIP(LastBlockMethod, name="clearclip"):
    r"""ClearCLIP: the last block as query-query attention alone (Lan et al., ECCV 2024, arXiv 2407.12442).

    $$z = \text{softmax}(q q^T / \sqrt{d}) \, v W$$

    $$\text{score}_t = S(\text{head}(z_t))$$

    $z$ replaces the state after the last block, whose residual connection and feed-forward network are left out. $W$ is
    the output projection, $d$ the width of an attention head. The score of a token is the target of its own embedding.
    If the head pools by attention, the last block is the one before the pooling.

    Shows:
        Which patches are similar to the caption, if each patch is averaged with the patches that are similar to it.

    Use it when:
        You compare with open-vocabulary segmentation.

    Avoid it when:
        You explain words (on 300 scenes, its AUC of words is 0.41; chance is 0.5), or want to know what the model
        computes: it does not compute these states.
    """

    paper = "Lan et al., ECCV 2024, arXiv 2407.12442"
    bare = True

    def attend(self, side: Side, record: AttentionRecord) -> Tensor:
        return weighted_values(record, self_weights(record, record.query))


@dataclass(frozen=True)
class NACLIP(LastBlockMethod, name="naclip"):
    r"""NACLIP: key-key attention with a Gaussian around each patch (Hajimiri et al., WACV 2025, arXiv 2404.08181).

    $$z = \text{softmax}(k k^T / \sqrt{d} + \omega) \, v W$$

    $$\omega_{ij} = \exp(-|p_i - p_j|^2 / (2 \, \text{spread}^2))$$

    $$\text{score}_t = S(\text{head}(z_t))$$

    $z$ replaces the state after the last block, whose residual connection and feed-forward network are left out. $W$ is
    the output projection, $d$ the width of an attention head, and $p_i$ the position of patch $i$ on the grid. $\omega$
    is 0 for tokens without a position, such as words. The score of a token is the target of its own embedding. If the
    head pools by attention, the last block is the one before the pooling. The authors call a last block without
    residual connection and feed-forward network the reduced architecture. The default standard deviation of 5 is
    theirs.

    Shows:
        Which patches are similar to the caption, if each patch is averaged with the patches that are near it or similar
        to it.

    Use it when:
        You compare with open-vocabulary segmentation, or want smooth maps.

    Avoid it when:
        You explain words (on 300 scenes, its AUC of words is 0.41; chance is 0.5), or want to know what the model
        computes: it does not compute these states.

    Args:
        spread: The standard deviation of the Gaussian, in patches.
    """

    paper = "Hajimiri et al., WACV 2025, arXiv 2404.08181"
    bare = True

    spread: Positive = 5.0

    def attend(self, side: Side, record: AttentionRecord) -> Tensor:
        cut = side.cut(side.tower.depth)
        rows = cut.hidden.shape[1]
        if record.key.shape[2] != rows:
            raise Unsupported(
                f"naclip needs an attention among all {rows} tokens in the last block (got one among "
                f"{record.key.shape[2]}): use clearclip, which has no neighborhood"
            )

        prior = torch.zeros(rows, rows, dtype=torch.float32, device="cpu")
        for grid in () if isinstance(cut.units, Words) else cells_of(cut.units).layers:
            tokens = torch.tensor(grid.tokens, device="cpu")
            prior[tokens[:, None], tokens] = _neighborhood(grid, self.spread)

        return weighted_values(record, self_weights(record, record.key, prior.to(cut.hidden.device)))


def _neighborhood(grid: Grid, spread: float) -> Float[Tensor, "cell cell"]:
    """Return the Gaussian of the distance of each cell from each other."""
    places = torch.cartesian_prod(*(torch.arange(count, device="cpu") for count in (grid.rows, grid.columns)))
    squares = (places[:, None] - places).square().sum(-1).float()
    return torch.exp(-squares / (2 * spread**2))


_SHARPNESS = 2.0
"""The factor of the cosines in the weights of captions, as published."""


@dataclass(frozen=True)
class CLIPSurgery(LastBlocks, name="clip_surgery"):
    r"""CLIP Surgery: patches compared with the caption by value-value attention (Li et al., Pattern Recognition 2025).

    $$z = h_k + \sum_{l \geq k} \text{softmax}(v_l v_l^T / \sqrt{d}) \, v_l W_l$$

    $$\text{score}_t = \cos(z_t, \text{caption}) - \cos(z_t, \text{caption without words})$$

    $h_k$ is the hidden state that enters block $k$, the first of the last ``blocks`` blocks. The values $v_l$ of block
    $l$ are those of the unchanged model, $W_l$ is the output projection of its attention, and $d$ the width of an
    attention head. For the text side, the cosine with a blank image is subtracted instead. The map is a difference of
    cosines for every target. With the targets ``difference``, ``softmax`` and ``centered``, the captions $c_1$ to
    $c_{n-1}$ with which they compare are subtracted from the caption $c_0$:

    $$\text{score}_t = w_0 \cos(z_t, c_0) - \frac{1}{n} \sum_i w_i \cos(z_t, c_i)$$

    $$w_i = n \, \text{softmax}_i(2 \cos(\text{image}, c_i))$$

    Shows:
        Which patches are more similar to the caption than to a caption without words, or than to the captions of
        ``against``.

    Use it when:
        You want a map without gradients, compare labels of an image, or compare with the published CLIP Surgery.

    Avoid it when:
        You want to know why the model gives this similarity: the model has no attention of values to values. The scores
        do not add up.

    Args:
        blocks: The number of last blocks that attend from values to values.
    """

    paper = "Li et al., Pattern Recognition 2025, arXiv 2304.05653"
    category = "attention"
    cost = "1 + about blocks / depth"

    blocks: Blocks | None = field(default=6, kw_only=True)

    def scores(self, side: Side) -> PerToken:
        first = self.first_layer(side.tower.depth)
        depth = side.tower.depth
        added = [with_attention(side.trace, number, _among_values).added for number in range(first, depth)]
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
    empty = other_tower.encode(other_tower.empty_inputs())
    similarity = side.dual_encoder.seen_from(side.tower.modality)

    def difference(embedding: Embedding) -> PerExample:
        exact = embedding.to(torch.promote_types(embedding.dtype, torch.float32))  # the cosines are nearly equal
        return compare(exact)[..., 0] - similarity(exact, empty.to(exact))

    return difference
