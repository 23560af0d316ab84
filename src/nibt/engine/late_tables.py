"""Word-region tables of models with late interaction: the map of each word's share of MaxSim.

MaxSim is a sum over the tokens of a query. The row of a word is the map of an image for the terms of that word's
tokens, by any method. The rows of all words and of all other tokens of the query add up to the map for the whole query.
"""

import torch

from nibt.core.side import Side
from nibt.data.units import Grid, Words
from nibt.engine.jacobians import part_masks
from nibt.engine.spec import ExplanationSpec
from nibt.engine.table_scores import AT_ONCE, TableScores, image_maps, with_other_tokens


def late_table(spec: ExplanationSpec, image: Side, text: Side, words: Words) -> TableScores:
    """Compute the table of one pair."""
    query = text.trace.embedding[0]
    masks = part_masks([word.tokens for word in words.words[0]], len(query)).to(query)
    parts = [image_maps(spec, image, query * part[..., None]) for part in masks.split(AT_ONCE)]
    scores = torch.cat([with_other_tokens(part) for part in parts])
    paths = [part.path for part in parts if part.path is not None]
    changes = [(path.at_input - path.at_baseline).sum() for path in paths]
    product = float(sum(changes)) if changes else float(scores.sum())
    grid = parts[0].units
    assert isinstance(grid, Grid)
    return TableScores(scores, grid.bare(), product)
