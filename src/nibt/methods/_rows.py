"""Scores of single rows: the head of a tower is applied to each row alone, as if all rows were that row.

Any head then reads the row: one that reads a class or an end token, one that averages rows, and one that pools by
attention, since the mean of equal values is that value.
"""

from collections.abc import Callable

import torch

from nibt.core.quadrature import chunks
from nibt.core.side import Side
from nibt.types import Embedding, Hidden, PerExample, PerToken

_WITHOUT_GRAPH = 4  # batch-size multiplier when no graph is kept


def score_rows(side: Side, stream: Hidden, score: Callable[[Embedding], PerExample]) -> PerToken:
    """Compute the scores of all rows of a hidden state that enters the head; those of padding are 0."""
    rest, scores = side.cut(side.tower.depth).rest, []
    with torch.no_grad():
        if "vectors" in side.tower.offers:  # late interaction: the head embeds each row alone
            return score_vectors(rest(stream[None])[0], score)
        for chunk in chunks(stream.shape[1], stream, _WITHOUT_GRAPH):
            alone = stream[:, chunk].transpose(0, 1)[:, :, None].expand(-1, -1, stream.shape[1], -1)
            scores.append(score(rest(alone)))
    return torch.cat(scores).T.masked_fill(~side.tower.valid_tokens(side.inputs, stream), 0.0)


def score_vectors(vectors: Embedding, score: Callable[[Embedding], PerExample]) -> PerToken:
    """Compute the score that each vector of late interaction has alone; those of padding are 0."""
    alone = vectors.movedim(1, 0).unsqueeze(2)  # (vector, batch, 1, dim)
    return score(alone).movedim(0, 1).masked_fill(vectors.square().sum(-1) == 0, 0.0)
