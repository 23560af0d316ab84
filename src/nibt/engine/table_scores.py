"""What each way to compute a words x patches table returns, and the maps that two of these ways compute."""

from collections.abc import Mapping
from dataclasses import dataclass, replace

import torch
from jaxtyping import Float
from torch import Tensor

from nibt.core.side import Side
from nibt.data.units import Grid
from nibt.engine.spec import ExplanationSpec
from nibt.results.attribution import Attribution

AT_ONCE = 8
"""The number of maps that are computed together."""


@dataclass(frozen=True)
class TableScores:
    """The scores of a table.

    Attributes:
        scores: (word + 1, patch + 1). The last row has all other tokens of the caption, the last column all image
            tokens that are no patches.
        grid: The grid of the patches.
        product: The exact sum of all scores.
        steps: The steps of each side, for methods with a path.
        notes: Warnings for the reader.

    """

    scores: Float[Tensor, "word patch"]
    grid: Grid
    product: float
    steps: Mapping[str, int] | None = None
    notes: tuple[str, ...] = ()


def image_maps(spec: ExplanationSpec, image: Side, others: Tensor) -> Attribution:
    """Return the maps of one image for several embeddings of the other side: (other, dim) or (other, vector, dim)."""
    score = replace(spec.scores["image"], other=others)
    return spec.methods["image"](Side(image.model, image.trace.take([0] * len(others)), score, image.memory))


def with_other_tokens(maps: Attribution) -> Float[Tensor, "map patch"]:
    """Return the scores with a last column for image tokens that are no patches, which only a path has."""
    scores = maps.scores.float().cpu()
    others = scores.new_zeros(len(scores)) if maps.path is None else maps.path.sum.float().cpu() - scores.sum(-1)
    return torch.cat([scores, others[:, None]], 1)
