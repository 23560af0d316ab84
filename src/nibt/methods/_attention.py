"""What methods that look at attention share: they score the rows of a tower from what its attentions took and gave.

The last attention is the last block's or, where a head pools by attention, the pooling; which of its rows the head
reads is said by ``nibt.models._attention.Attentions``.
"""

from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from nibt.core.quadrature import Nodes, mean_gradient
from nibt.core.side import Side
from nibt.data.units import special_share
from nibt.errors import BadOption
from nibt.methods.base import Method, Need
from nibt.models._attention import Attentions, Weights
from nibt.results.attribution import Attribution
from nibt.types import Hidden, PerToken


@dataclass(frozen=True)
class AttentionMethod(Method):
    """Scores every row of the stream; rows that stand for no unit are dropped afterwards."""

    needs = ("attention",)

    @abstractmethod
    def scores(self, side: Side) -> PerToken:
        """The score of each row."""

    def __call__(self, side: Side) -> Attribution:
        self.check(side.tower)
        scores, units = self.scores(side).detach(), side.units
        return Attribution(units.keep(scores), units, special_share(scores, units))


@dataclass(frozen=True)
class LastAttention(AttentionMethod):
    """A method of the last attention's weights and their gradient, averaged over the heads."""

    @abstractmethod
    def weighed(self, weights: Weights, gradient: Weights) -> Weights:
        """The score of each key for each query and head."""

    def scores(self, side: Side) -> PerToken:
        seen = side.attentions(side.tower.depth - 1)
        (gradient,) = gradients(side, seen, [seen.last.weights])
        return seen.as_read(self.weighed(seen.last.weights, gradient).mean(1))


@dataclass(frozen=True)
class AttentionOrInput(LastAttention):
    """``at``: where the gradient is taken, ``attention`` (the last) or ``input`` (the tower's first tokens)."""

    at: str = "attention"

    def __post_init__(self) -> None:
        if self.at not in ("attention", "input"):
            raise BadOption(f"at must be attention or input (got {self.at!r})")

    def required(self) -> tuple[Need, ...]:
        return self.needs if self.at == "attention" else ("stem",)

    @abstractmethod
    def of_input(self, state: Hidden, gradient: Hidden) -> PerToken:
        """The score of each of the first tokens."""

    def __call__(self, side: Side) -> Attribution:
        """The scores of a batch."""
        if self.at == "attention":
            return super().__call__(side)
        self.check(side.tower)
        stem = side.stem()
        here = Nodes((1.0,), (1.0,))  # the path's end: the tokens themselves
        gradient = mean_gradient(lambda states: side.score(stem.rest(states)), 0 * stem.hidden, stem.hidden, here)
        scores = self.of_input(stem.hidden, gradient)
        return Attribution(stem.units.keep(scores), stem.units, special_share(scores, stem.units))


def gradients(side: Side, seen: Attentions, at: Sequence[Tensor]) -> tuple[Tensor, ...]:
    """Of the score, with respect to what was seen on the way to it."""
    with torch.enable_grad():
        return torch.autograd.grad(side.score(seen.embedding).sum(), at)
