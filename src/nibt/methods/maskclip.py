r"""MaskCLIP: the similarity of each patch's own value (Zhou et al., ECCV 2022, arXiv 2112.01071).

$$\text{score}_t = S(\text{head}(z_t))$$

$z_t$ leaves the last block, whose attention is replaced by its values: it no longer mixes tokens, and the rest of the
block stays. If the head pools by attention, this is the last attention, and the head of a patch alone is its value. The
score of a patch is the target of its own embedding, as ``cos(patch, caption)``, and not a share of that of the image.
With late interaction, the head embeds each token alone.

Answers:
    Which patches have values in the last attention that are like the caption.

Use it when:
    You compare with open-vocabulary segmentation, or need a map without gradients, also in half precision.

Avoid it when:
    You need an explanation: the map often highlights the background instead of the named object, also on ``scenes``,
    and all cosines of an image have an offset in common. ``clip_surgery`` removes both.
"""

from dataclasses import dataclass

from torch import Tensor

from nibt.core.side import Side
from nibt.methods._attention import LastBlockMethod
from nibt.methods._rows import score_rows
from nibt.models._attention import AttentionRecord
from nibt.types import PerToken


@dataclass(frozen=True)
class MaskCLIP(LastBlockMethod):
    """The target of each token's embedding, where the last attention passes on the token's own value."""

    paper = "Zhou et al., ECCV 2022, arXiv 2112.01071"

    def scores(self, side: Side) -> PerToken:
        if side.trace.pools_by_attention:  # the head of a row alone is its value
            return score_rows(side, side.cut(side.tower.depth).hidden, side.score)
        return super().scores(side)

    def attend(self, side: Side, record: AttentionRecord) -> Tensor:
        return record.value


PLUGIN = MaskCLIP
