"""Stages of a path: from a layer to the score, and from each earlier layer to the special tokens of the next one.

What a special token carries at a layer, such as the class token, came from units at earlier layers. Let w be the mean
gradient of the score at its row. One block below, w . block(z) is a number that the state z determines, with a path of
its own from the baseline to the input. The gradients along it divide the score of the special tokens among all rows of
the earlier layer. So it goes on, down to layer 0, where special tokens are constants and have no score.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

from jaxtyping import Float
from torch import Tensor

from nibt.core.side import Side
from nibt.models._trace import Cut
from nibt.types import Hidden, PerExample


@dataclass(frozen=True)
class PathStage:
    """A number that a state of a batch determines, and where the path of the state starts.

    Attributes:
        side: The side of the batch.
        layer: The layer of the state; None for the first tokens.
        start: The state at the start of the path.
        cut: The tower cut at the layer, or one block of it.
        score: Computes the number from what ``cut`` computes: the score of the side, or a sum of special tokens.
        weights: The weights of this sum.
    """

    side: Side
    layer: int | None
    start: Hidden
    cut: Cut
    score: Callable[[Tensor], Tensor]
    weights: Float[Tensor, "batch value"] | None = None

    @classmethod
    def of_layer(cls, side: Side, layer: int | None, baseline: str) -> "PathStage":
        """Return the stage from a layer (None: from the first tokens) to the score, with a named baseline."""
        cut = side.stem() if layer is None else side.trace.cut(layer)
        return cls(side, layer, side.baseline(baseline, layer, cut.hidden).expand_as(cut.hidden), cut, side.score)

    @classmethod
    def of_block(cls, side: Side, number: int, weights: Float[Tensor, "batch value"], rows: int) -> "PathStage":
        """Return the stage from the input of a block to the weighted sum of the first rows of its output."""
        trace = side.trace
        cut = trace.block(number, rows)
        start = trace.tower.blank(trace.inputs, number).expand_as(cut.hidden)
        return cls(side, number, start, cut, partial(_weighted, weights), weights)

    def take(self, rows: Sequence[int]) -> "PathStage":
        """Return the stage of the items at ``rows``."""
        side, layer = self.side.take(rows), self.layer
        assert layer is not None, "the first tokens are not cut for some items"
        if self.weights is not None:
            return PathStage.of_block(side, layer, self.weights[rows], self.weights.shape[1] // self.start.shape[2])
        return PathStage(side, layer, self.start[rows], side.trace.cut(layer), side.score)

    def change(self) -> PerExample:
        """Compute the change of the number of a block along the path, from recorded states."""
        assert self.layer is not None
        assert self.weights is not None
        trace, after = self.side.trace, self.layer + 1
        change = trace.cut(after).hidden - trace.tower.blank(trace.inputs, after)
        return self.score(change.flatten(1)[:, : self.weights.shape[1]])


def _weighted(weights: Float[Tensor, "batch value"], rows: Float[Tensor, "*node batch value"]) -> Tensor:
    """Compute the weighted sum of rows, which come one after the other."""
    return (rows * weights).sum(-1)
