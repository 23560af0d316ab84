r"""NACLIP: key-key attention with a Gaussian around each patch (Hajimiri et al., WACV 2025, arXiv 2404.08181).

$$z = \text{softmax}(k k^T / \sqrt{d} + \omega) \, v W$$

$$\omega_{ij} = \exp(-|p_i - p_j|^2 / (2 \, \text{spread}^2))$$

$$\text{score}_t = S(\text{head}(z_t))$$

$z$ takes the place of what leaves the last block, without its residual connection and feed-forward network. $W$ is the
output projection, $d$ the width of a head, $p$ a place on the grid. $\omega$ is 0 for tokens without a place, as words.
The score of a token is the target of its own embedding. If the head pools by attention, the last block is the one
before it. This is the authors' reduced architecture, whose Gaussian has the standard deviation 5, too.

Answers:
    Which patches, with near ones and those like them, are like the caption.

Use it when:
    You compare with open-vocabulary segmentation, or want smooth maps.

Avoid it when:
    You explain words (chance on ``scenes``), or need what the model does: it never has these states.
"""

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from nibt.core.side import Side
from nibt.data.units import Grid, Words, cells_of
from nibt.errors import Unsupported
from nibt.methods._attention import LastBlockMethod, self_weights, weighted_values
from nibt.models._attention import AttentionRecord
from nibt.options import Positive


@dataclass(frozen=True)
class NACLIP(LastBlockMethod):
    """The target of each token's embedding, from the key-key attention of the last block among near patches alone.

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


PLUGIN = NACLIP
