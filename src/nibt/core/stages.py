"""Stages of a path: from a layer to the score, and from each earlier layer to the special tokens of the next one.

What a special token carries at a layer, such as the class token, came from units at earlier layers. Let w be the mean
gradient of the score at its row. One block below, w . block(z) is a number that the state z determines, with a path of
its own from the baseline to the input. The gradients along it divide the score of the special tokens among all rows of
the earlier layer. So it goes on, down to layer 0, where special tokens are constants and have no score.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from jaxtyping import Float
from torch import Tensor

from nibt.core.side import Side
from nibt.data.units import special_tokens
from nibt.models._trace import Cut
from nibt.types import Hidden, PerExample, States


@dataclass(frozen=True)
class Stage:
    """A number that a state of a batch determines, and where the path of the state starts.

    Attributes:
        side: The side of the batch, whose score is the number.
        layer: The layer of the state; None for the first tokens.
        start: The state at the start of the path.
        cut: The tower cut at the layer, or one block of it.
        weights: The weights of the special tokens that leave the block, whose weighted sum is the number then.
    """

    side: Side
    layer: int | None
    start: Hidden
    cut: Cut
    weights: Float[Tensor, "batch value"] | None = None

    @classmethod
    def of_layer(cls, side: Side, layer: int, baseline: str) -> "Stage":
        """Return the stage from a layer to the score, with a named baseline."""
        cut = side.trace.cut(layer)
        return cls(side, layer, side.baseline(baseline, layer, cut.hidden).expand_as(cut.hidden), cut)

    @classmethod
    def of_block(cls, side: Side, number: int, weights: Float[Tensor, "batch value"]) -> "Stage":
        """Return the stage from the input of a block to the weighted sum of its special tokens."""
        cut = side.trace.block(number)
        start = side.tower.blank(side.inputs, number).expand_as(cut.hidden)
        return cls(side, number, start, cut, weights)

    def below(self, gradient: Float[Tensor, "batch value"]) -> "Stage":
        """Return the stage of the block before, from the mean gradient of this one at its first rows."""
        count, width = self.start.shape[1:]
        special = special_tokens(self.cut.units, count)[:, : gradient.shape[1] // width, None]
        weights = gradient.unflatten(1, (-1, width)) * special.to(gradient)
        return Stage.of_block(self.side, (self.layer or 0) - 1, weights.flatten(1))

    def take(self, rows: Sequence[int]) -> "Stage":
        """Return the stage of the items at ``rows``."""
        side, layer = self.side.take(rows), self.layer
        assert layer is not None, "the first tokens are not cut for some items"
        if self.weights is not None:
            return Stage.of_block(side, layer, self.weights[rows])
        return Stage(side, layer, self.start[rows], side.trace.cut(layer))

    def gradient(self, states: States) -> States:
        """Compute the gradients of the number at states."""
        side = self.side if self.weights is None else replace(self.side, score=self.weighted)
        return side.gradient(self.cut, states)

    def weighted(self, rows: Float[Tensor, "*node batch value"]) -> Float[Tensor, "*node batch"]:
        """Compute the weighted sum of the special tokens in the output of a block."""
        assert self.weights is not None
        return (rows * self.weights).sum(-1)

    def change(self) -> PerExample:
        """Compute the change of the number of a block along the path, from recorded states."""
        assert self.layer is not None
        assert self.weights is not None
        side, after = self.side, self.layer + 1
        change = side.trace.cut(after).hidden - side.tower.blank(side.inputs, after)
        return self.weighted(change.flatten(1)[:, : self.weights.shape[1]])
