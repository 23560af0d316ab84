"""The words x patches table of one pair, by ``Method.table`` or, for models with late interaction, from maps.

MaxSim is a sum over the tokens of a query. The row of a word is the map of an image for the terms of that word's
tokens, by any method. The rows of all words and of all other tokens of the query add up to the map for the whole query.
"""

import torch

from nibt.core.jacobians import part_masks
from nibt.core.side import Side
from nibt.data.units import Grid, Words
from nibt.engine.spec import ExplanationSpec
from nibt.methods._tables import TableScores, image_maps, with_other_tokens
from nibt.methods._vectors import AT_ONCE
from nibt.methods.base import Method


def table_scores(spec: ExplanationSpec, image: Side, text: Side, words: Words) -> TableScores:
    """Compute the table of one pair."""
    method = spec.methods["image"]
    method.check_amounts("tables and vectors")
    if spec.model.similarity.item_ndim == 1:
        return method.table(image, text, words, spec.methods["text"])
    return late_table(method, image, text, words)


def late_table(method: Method, image: Side, text: Side, words: Words) -> TableScores:
    """Compute the table of a model with late interaction, whose rows add up to the map for the whole query."""
    query = text.trace.embedding[0]
    masks = part_masks([word.tokens for word in words.words[0]], len(query)).to(query)
    maps = [image_maps(method, image, query * mask[..., None]) for mask in masks.split(AT_ONCE)]
    scores = torch.cat([with_other_tokens(of_words) for of_words in maps])
    paths = [of_words.path for of_words in maps if of_words.path is not None]
    changes = [(path.at_input - path.at_baseline).sum() for path in paths]
    product = float(sum(changes)) if changes else float(scores.sum())
    grid = maps[0].units
    assert isinstance(grid, Grid)
    return TableScores(scores, grid.bare(), product)
