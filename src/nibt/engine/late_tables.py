"""Word-region tables of models with late interaction: the map of each word's share of MaxSim.

MaxSim is a sum over the tokens of a query. The row of a word is the map of an image for the terms of that word's
tokens, by any method. The rows of all words and of all other tokens of the query add up to the map for the whole query.
"""

from functools import partial

import torch
from torch import Tensor

from nibt.core.side import Side
from nibt.data.units import Grid, Words
from nibt.engine.jacobians import part_masks
from nibt.engine.spec import ExplanationSpec
from nibt.engine.table_scores import TableScores
from nibt.results.attribution import Attribution

_AT_ONCE = 8  # rows that go through the model together


def late_table(spec: ExplanationSpec, image: Side, text: Side, words: Words) -> TableScores:
    """Compute the table of one pair.

    Args:
        spec: The resolved request.
        image: The image side of one pair.
        text: The text side of the pair.
        words: The words that get a row.

    Returns:
        The table. Methods without a path give image tokens that are no patches no sum, so the last column is 0, and the
        exact sum is that of the scores.

    """
    query = text.trace.embedding[0]
    masks = part_masks([word.tokens for word in words.words[0]], len(query)).to(query)
    parts = [_rows(spec, image, query * part[..., None]) for part in masks.split(_AT_ONCE)]
    kept = torch.cat([part.scores for part in parts]).float().cpu()
    paths = [part.path for part in parts if part.path is not None]
    others, product = kept.new_zeros(len(kept)), float(kept.sum())
    if paths:
        others = torch.cat([path.sum for path in paths]).float().cpu() - kept.sum(-1)
        product = float(sum((path.at_input - path.at_baseline).sum() for path in paths))
    grid = parts[0].units
    assert isinstance(grid, Grid)
    return TableScores(torch.cat([kept, others[:, None]], 1), grid.bare(), product)


def _rows(spec: ExplanationSpec, image: Side, queries: Tensor) -> Attribution:
    """Return the maps of the image for parts of a query: (part, vector, dim)."""
    score = partial(spec.targets["image"], other=queries, context=spec.contexts["image"])
    return spec.methods["image"](Side(image.model, image.trace.take([0] * len(queries)), score, image.memory))
