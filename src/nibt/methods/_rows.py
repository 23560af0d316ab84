"""Scores of single rows: the head of a tower is applied to each row alone, as if all rows were that row.

Any head then reads the row: one that reads a class or an end token, one that averages rows, and one that pools by
attention, since the mean of equal values is that value.
"""

from collections.abc import Callable

import torch

from nibt.core.quadrature import chunks
from nibt.core.side import Side
from nibt.errors import Unsupported
from nibt.models.base import Tower
from nibt.types import Embedding, Hidden, PerExample, PerToken

_WITHOUT_GRAPH = 4  # batch-size multiplier when no graph is kept


def check_one_embedding(method: str, tower: Tower) -> None:
    """Check that a tower has one embedding for all rows.

    Raises:
        Unsupported: It has one for each token, as late interaction needs it.

    """
    if "vectors" in tower.offers:
        raise Unsupported(
            f"{method} embeds each token with the head for the whole input, and this {tower.modality} tower "
            f"({type(tower).__name__}) has an embedding for each token: use similarity_map"
        )


def score_rows(side: Side, stream: Hidden, score: Callable[[Embedding], PerExample]) -> PerToken:
    """Compute the scores of all rows of a hidden state that enters the head; those of padding are 0.

    Args:
        side: The side.
        stream: The hidden state.
        score: Computes scores of shape (row, batch) from embeddings of the rows.

    """
    rest, scores = side.cut(side.tower.depth).rest, []
    with torch.no_grad():
        for part in chunks(stream.shape[1], stream, _WITHOUT_GRAPH):
            alone = stream[:, part].transpose(0, 1)[:, :, None].expand(-1, -1, stream.shape[1], -1)
            scores.append(score(rest(alone)))
    return torch.cat(scores).T.masked_fill(~side.tower.valid_tokens(side.inputs, stream), 0.0)
