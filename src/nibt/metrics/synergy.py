r"""Synergy: the correlation of the table with what each word and patch add only together, all other units removed.

With the cosine $v$ of what is kept, the Harsanyi dividend of word $i$ and patch $j$ is

$$m(i, j) = v(ij) - v(i) - v(j) + v(\emptyset)$$

It is the product of the changes of both unit embeddings, so all pairs are compared (Pearson).

Range:
    -1 to 1; NaN for a constant table

Forward passes:
    2 + words + patches, for all tables

Use it when:
    You read single entries of a table.

Avoid it when:
    The model cannot read nearly empty inputs: ``table_faithfulness`` keeps half of the units.

Source:
    nibt, after the abstract of Ky et al., arXiv 2605.22168
"""

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from nibt.metrics._coalitions import embeddings_of_patches, embeddings_of_words, on_patches
from nibt.metrics.base import Metric, RegionsInput
from nibt.types import PerExample


@dataclass(frozen=True)
class Synergy(Metric[RegionsInput]):
    """The correlation of the table with what each word and patch add only together."""

    better = "higher"
    sides = ("regions",)

    def __call__(self, metric_input: RegionsInput) -> PerExample:
        dividends = metric_input.once_for_all_methods("dividends", lambda: dividends_of(metric_input))
        table = on_patches(metric_input).double().cpu()
        both = torch.stack([(scores - scores.mean()).flatten() for scores in (table, dividends)])
        lengths = both.norm(dim=1)
        flat = lengths <= 1e-12 * torch.stack([table.abs().max(), dividends.abs().max()])  # constant up to rounding
        product = (both[0] @ both[1]) / lengths.prod()
        return product.where(~flat.any(), torch.nan)[None]


def dividends_of(metric_input: RegionsInput) -> Float[Tensor, "word patch"]:
    """Compute the dividends of all words and patches."""
    alone = [
        torch.eye(count + 1, dtype=torch.float32, device="cpu")[:, 1:]
        for count in (len(metric_input.regions.words), metric_input.image.units.count)
    ]
    text = embeddings_of_words(metric_input.text, metric_input.regions, alone[0]).double()
    image = embeddings_of_patches(metric_input.image, alone[1]).double()
    return (text[1:] - text[0]) @ (image[1:] - image[0]).T
