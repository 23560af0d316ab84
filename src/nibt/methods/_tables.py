"""Words x patches tables: what each way to compute one returns, and the product of the vectors of both sides."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

import torch
from jaxtyping import Float
from torch import Tensor

from nibt.core.side import Side
from nibt.data.units import Grid, Words
from nibt.methods._vectors import SideVectors
from nibt.results.attribution import Attribution
from nibt.targets.base import Score


@dataclass(frozen=True)
class TableScores:
    """The scores of a table; the last row and column have all tokens that are no words or patches."""

    scores: Float[Tensor, "word patch"]
    grid: Grid
    product: float
    steps: Mapping[str, int] | None = None
    notes: tuple[str, ...] = ()


def image_maps(method: Callable[[Side], Attribution], image: Side, others: Tensor) -> Attribution:
    """Return the maps of one image for several embeddings of the other side: (other, dim) or (other, vector, dim)."""
    assert isinstance(image.score, Score)
    return method(replace(image, trace=image.trace.take([0] * len(others)), score=replace(image.score, other=others)))


def with_other_tokens(maps: Attribution) -> Float[Tensor, "map patch"]:
    """Return the scores with a last column for image tokens that are no patches, which only a path has."""
    scores = maps.scores.float().cpu()
    others = scores.new_zeros(len(scores)) if maps.path is None else maps.path.sum.float().cpu() - scores.sum(-1)
    return torch.cat([scores, others[:, None]], 1)


def vector_table(of_image: SideVectors, of_text: SideVectors, words: Words) -> TableScores:
    """Compute a table from the vectors of both sides."""
    of_words = of_text.of_words([word.tokens for word in words.words[0]])
    of_patches = of_image.scores(of_words.values, shared_bound=True)
    assert isinstance(of_patches.units, Grid)
    scores, product = of_patches.parts.values.float().cpu(), float(of_image.change @ of_text.change)
    if of_words.steps.max() == 0:
        return TableScores(scores, of_patches.units, product)
    sides = {"image": of_patches.parts, "text": of_words}
    steps = {side: int(parts.steps.max()) for side, parts in sides.items()}
    notes = tuple(
        f"the {side} side of the table is above the tolerance after {steps[side]} steps: the table adds up to "
        f"{float(scores.sum()):.3g} instead of {product:.3g}"
        for side, parts in sides.items()
        if parts.missed.any()
    )
    return TableScores(scores, of_patches.units, product, steps, notes)
