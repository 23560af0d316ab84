"""Base classes of methods that score each row of a tower from its recorded attentions, or replace the last of them."""

from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Annotated, ClassVar

import torch
from jaxtyping import Float
from torch import Tensor

from nibt.core.side import Side
from nibt.data.units import special_token_share
from nibt.methods._checks import Either
from nibt.methods._rows import score_rows
from nibt.methods.base import Method, Need
from nibt.models._attention import AttentionRecord, Attentions, Weights
from nibt.options import Blocks
from nibt.results.attribution import Attribution
from nibt.types import Hidden, PerToken


class AttentionMethod(Method):
    """Base class of methods that score every row of the hidden state; rows without a unit are dropped afterwards."""

    needs = ("attention",)

    @abstractmethod
    def scores(self, side: Side) -> PerToken:
        """Compute the score of each row."""

    def attribute(self, side: Side) -> Attribution:
        self.check(side.tower)
        scores, units = self.scores(side).detach(), side.units
        return Attribution(units.keep(scores), units, special_token_share(scores, units))


@dataclass(frozen=True)
class LastBlocks(AttentionMethod):
    """Base class of methods that read the attentions of the last blocks.

    Args:
        blocks: The number of last blocks that are read. None reads all.

    """

    blocks: Blocks | None = field(default=None, kw_only=True)

    def first_layer(self, depth: int) -> int:
        """Return the layer that enters the first block that is read, in a tower of ``depth`` blocks."""
        return depth - min(self.blocks or depth, depth)


class LastAttention(AttentionMethod):
    """Base class of methods that score the weights of the last attention, averaged over the heads."""

    variants: ClassVar = {name: {"image": {}, "text": {}} for name in ("default", "paper")}

    @abstractmethod
    def key_scores(self, weights: Weights, gradient: Weights) -> Weights:
        """Compute the score of each key, for each query and head, from the weights and their gradient."""

    def scores(self, side: Side) -> PerToken:
        attentions = side.attentions(side.tower.depth - 1)
        (gradient,) = gradients(side, attentions, [attentions.last.weights])
        return attentions.read_by_head(self.key_scores(attentions.last.weights, gradient).mean(1))


@dataclass(frozen=True)
class AttentionOrInput(LastAttention):
    """Base class of methods that take the gradient at the last attention or at the tower's input.

    Args:
        at: Where the gradient is taken: ``attention`` (the last one) or ``input`` (the tower's first tokens).

    """

    category = "gradient"
    cost = "1 + about 3 / depth; at the input 2 + about 3"
    variants: ClassVar = {
        **{name: {"image": {}, "text": {}} for name in ("default", "paper")},
        "textbook": {side: {"at": "input"} for side in ("image", "text")},
    }

    at: Annotated[str, Either(("attention", "input"))] = "attention"

    def required(self) -> tuple[Need, ...]:
        return self.needs if self.at == "attention" else ("stem",)

    def cost_formula(self) -> str:
        at_attention, _, at_input = self.cost.partition("; at the input ")
        return at_attention if self.at == "attention" else at_input

    @abstractmethod
    def input_scores(self, state: Hidden, gradient: Hidden) -> PerToken:
        """Compute the score of each of the first tokens from the tokens and their gradient."""

    def attribute(self, side: Side) -> Attribution:
        if self.at == "attention":
            return super().attribute(side)
        self.check(side.tower)
        stem = side.stem()
        scores = self.input_scores(stem.hidden, side.gradient(stem, stem.hidden[None])[0])
        return Attribution(stem.units.keep(scores), stem.units, special_token_share(scores, stem.units))


def gradients(side: Side, attentions: Attentions, at: Sequence[Tensor]) -> tuple[Tensor, ...]:
    """Compute the gradients of the score with respect to recorded tensors ``at``."""
    with torch.enable_grad():
        return torch.autograd.grad(side.score(attentions.embedding).sum(), at)


Rows = Float[Tensor, "batch head row channel"]


class LastBlockMethod(AttentionMethod):
    """Base class of methods that score each row alone, after a last block with another attention."""

    category = "attention"
    cost = "1 + about 1 / depth"
    bare: ClassVar[bool] = False
    """Whether the residual connection and the feed-forward network of the block are left out."""

    @abstractmethod
    def attend(self, side: Side, record: AttentionRecord) -> Tensor:
        """Compute the output of the attention."""

    def scores(self, side: Side) -> PerToken:
        replayed = side.trace.with_attention(side.tower.depth - 1, partial(self.attend, side))
        return score_rows(side, replayed.added if self.bare else replayed.stream, side.score)


def self_weights(record: AttentionRecord, vectors: Rows, prior: Tensor | float = 0.0) -> Weights:
    """Compute the weights of the attention of vectors with each other, masked as in the block, at least in float32."""
    vectors = vectors.to(torch.promote_types(vectors.dtype, torch.float32))  # their products are large
    logits = vectors @ vectors.mT * vectors.shape[-1] ** -0.5 + prior
    masked = (record.weights == 0).all(1, keepdim=True)
    return logits.masked_fill(masked, torch.finfo(logits.dtype).min).softmax(-1)


def weighted_values(record: AttentionRecord, weights: Weights) -> Rows:
    """Compute the output of an attention with other weights."""
    return (weights @ record.value.to(weights)).to(record.value)
