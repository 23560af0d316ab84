r"""Synergy: the correlation of the table with what each word and patch add only together, all other units removed.

The Harsanyi dividend of word $i$ and patch $j$ in the game $v$, the cosine of what is kept, is

$$m(i, j) = v(\{i, j\}) - v(\{i\}) - v(\{j\}) + v(\emptyset)$$

With $P_j$ and $Q_i$, the changes of the unit embeddings by the patch and the word alone, it is $Q_i \cdot P_j$, so all
pairs are compared (Pearson).

Range:
    -1 to 1; NaN for a constant table

Forward passes:
    2 + words + patches, shared by all tables of a pair

Use it when:
    You read single entries as what a word and a patch mean to each other.

Avoid it when:
    The model cannot read nearly empty inputs. Use ``table_faithfulness``, where half of the units are kept.

Source:
    nibt; Ky et al., arXiv 2605.22168, for the idea (their measure is for sets)
"""

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from nibt.data.units import Grid
from nibt.metrics._coalitions import embeddings_of_patches, embeddings_of_words, on_patches
from nibt.metrics.base import Metric, RegionsInput
from nibt.types import PerExample


@dataclass(frozen=True)
class Synergy(Metric[RegionsInput]):
    """The correlation of the table with what each word and patch add only together."""

    better = "higher"
    sides = ("regions",)

    def __call__(self, metric_input: RegionsInput) -> PerExample:
        """Compute the correlation over all pairs."""
        grid = metric_input.image.units
        assert isinstance(grid, Grid)
        dividends = metric_input.once_for_all_methods("dividends", lambda: dividends_of(metric_input, grid))
        table = on_patches(metric_input.regions, grid).double().cpu()
        both = torch.stack([(part - part.mean()).flatten() for part in (table, dividends)])
        lengths = both.norm(dim=1)
        flat = lengths <= 1e-12 * torch.stack([table.abs().max(), dividends.abs().max()])  # constant up to rounding
        product = (both[0] @ both[1]) / lengths.prod()
        return product.where(~flat.any(), torch.nan)[None]


def dividends_of(metric_input: RegionsInput, grid: Grid) -> Float[Tensor, "word patch"]:
    """Compute the dividends of all words and patches."""
    alone = [torch.eye(count + 1, device="cpu")[:, 1:] for count in (len(metric_input.regions.words), grid.count)]
    text = embeddings_of_words(metric_input.text, metric_input.regions, alone[0]).double()
    image = embeddings_of_patches(metric_input.image, alone[1]).double()
    return (text[1:] - text[0]) @ (image[1:] - image[0]).T


PLUGIN = Synergy
