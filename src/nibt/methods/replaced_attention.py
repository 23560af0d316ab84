"""Methods that replace the attention of the last block, and score each token by its own embedding."""

from abc import abstractmethod
from dataclasses import dataclass
from functools import partial
from typing import ClassVar

import torch
from jaxtyping import Float
from torch import Tensor

from nibt.core.side import Side
from nibt.data.units import Grid, Words, cells_of
from nibt.errors import Unsupported
from nibt.methods._attention import AttentionMethod, score_rows, self_weights, weighted_values
from nibt.models._attention import AttentionRecord
from nibt.options import Positive
from nibt.types import PerToken


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
        replayed = side.trace.with_attention(side.tower.depth - 1, partial(self.attend, side))
        return score_rows(side, replayed.added if self.bare else replayed.stream, side.score)


@dataclass(frozen=True)
class MaskCLIP(LastBlockMethod, name="maskclip"):
    r"""MaskCLIP: the similarity of each patch's own value (Zhou et al., ECCV 2022, arXiv 2112.01071).

    $$\text{score}_t = S(\text{head}(z_t))$$

    $z_t$ leaves the last block, whose attention is replaced by its values: it no longer mixes tokens, and the rest of
    the block stays. If the head pools by attention, this is the last attention, and the head of a patch alone is its
    value. The score of a patch is the target of its own embedding, as ``cos(patch, caption)``, and not a share of that
    of the image. With late interaction, the head embeds each token alone.

    Answers:
        Which patches have values in the last attention that are like the caption.

    Use it when:
        You compare with open-vocabulary segmentation, or need a map without gradients, also in half precision.

    Avoid it when:
        You need an explanation: the map often highlights the background instead of the named object, also on
        ``scenes``, and all cosines of an image have an offset in common. ``clip_surgery`` removes both.
    """

    paper = "Zhou et al., ECCV 2022, arXiv 2112.01071"

    def scores(self, side: Side) -> PerToken:
        if side.trace.pools_by_attention:  # the head of a row alone is its value
            return score_rows(side, side.cut(side.tower.depth).hidden, side.score)
        return super().scores(side)

    def attend(self, side: Side, record: AttentionRecord) -> Tensor:
        return record.value


@dataclass(frozen=True)
class SCLIP(LastBlockMethod, name="sclip"):
    r"""SCLIP: correlative self-attention in the last block (Wang et al., ECCV 2024, arXiv 2312.01597).

    $$A = \text{softmax}(q q^T / \sqrt{d}) + \text{softmax}(k k^T / \sqrt{d})$$

    $$\text{score}_t = S(\text{head}(z_t))$$

    $z$ leaves the last block, whose attention is replaced by $A$; $d$ is the width of a head. The score of a token is
    the target of its own embedding. If the head pools by attention, the last block is the one before it.

    Answers:
        Which patches, with those like them, are like the caption.

    Use it when:
        You compare with open-vocabulary segmentation.

    Avoid it when:
        You need an explanation: the attention is not the model's, and maps highlight the background, as with
        ``maskclip``.
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

    $z$ takes the place of what leaves the last block, without its residual connection and feed-forward network. $W$ is
    the output projection, $d$ the width of a head. The score of a token is the target of its own embedding. If the head
    pools by attention, the last block is the one before it.

    Answers:
        Which patches, with those like them, are like the caption.

    Use it when:
        You compare with open-vocabulary segmentation.

    Avoid it when:
        You explain words (chance on ``scenes``), or need what the model does: it never has these states.
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

    $z$ takes the place of what leaves the last block, without its residual connection and feed-forward network. $W$ is
    the output projection, $d$ the width of a head, $p$ a place on the grid. $\omega$ is 0 for tokens without a place,
    as words. The score of a token is the target of its own embedding. If the head pools by attention, the last block is
    the one before it. This is the authors' reduced architecture, whose Gaussian has the standard deviation 5, too.

    Answers:
        Which patches, with near ones and those like them, are like the caption.

    Use it when:
        You compare with open-vocabulary segmentation, or want smooth maps.

    Avoid it when:
        You explain words (chance on ``scenes``), or need what the model does: it never has these states.

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
        grid = None if isinstance(cut.units, Words) else cells_of(cut.units)
        while grid is not None:
            tokens = torch.tensor(grid.tokens, device="cpu")
            prior[tokens[:, None], tokens] = _neighborhood(grid, self.spread)
            grid = grid.overview
        return weighted_values(record, self_weights(record, record.key, prior.to(cut.hidden.device)))


def _neighborhood(grid: Grid, spread: float) -> Float[Tensor, "cell cell"]:
    """Return the Gaussian of the distance of each cell from each other."""
    places = torch.cartesian_prod(*(torch.arange(count, device="cpu") for count in (grid.rows, grid.columns)))
    squares = (places[:, None] - places).square().sum(-1).float()
    return torch.exp(-squares / (2 * spread**2))
