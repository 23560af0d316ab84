"""Attention of an unmodified model: seen where it is computed, whatever kernel computes it.

Inside ``AttentionRecorder`` every attention of this thread is computed openly, softmax(q k^T) v, and what it took and
gave is noted, on one autograd graph with all that follows. The model is not touched: no hook, no other
implementation, so there is nothing to restore, and threads cannot meet. Families state nothing; they all end in one
of three calls: the fused kernel (Transformers, timm, OpenCLIP), torch's multi-head attention (which hides that kernel
from an override of its own), or two products with a softmax between them (Transformers' eager way, timm's).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from types import FunctionType
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor
from torch.overrides import TorchFunctionMode

from nibt.errors import Unsupported
from nibt.types import Embedding, Hidden, PerToken

Weights = Float[Tensor, "batch head query key"]
AttentionMap = Float[Tensor, "batch query key"]  # what was made of the weights of all heads

_SOFTMAX = {F.softmax, torch.softmax, Tensor.softmax}
_PRODUCT = {torch.matmul, Tensor.matmul, Tensor.__matmul__}


@dataclass(frozen=True)
class AttentionRecord:
    """One attention: its weights, whose rows add up to 1, what they were made of, and its output before the
    projection that mixes the heads.
    """

    weights: Weights
    query: Float[Tensor, "batch head query channel"]
    key: Float[Tensor, "batch head key channel"]
    value: Float[Tensor, "batch head key width"]
    output: Float[Tensor, "batch head query width"]


@dataclass(frozen=True)
class Attentions:
    """The attentions of the blocks from some layer on, on one graph with the embedding.

    ``streams`` are what leaves each of these blocks. ``pooling`` is the attention by which the head reads, where it
    has one. ``rows`` are the rows of the last attention that the head reads, each with its share: the class or the
    end token has all of it; where the head averages, the rows that it averages have equal shares; of a head that
    pools by attention it is the pooling query, so that there the pooling is the last attention, not the last block's.
    """

    blocks: tuple[AttentionRecord, ...]
    streams: tuple[Hidden, ...]
    pooling: AttentionRecord | None
    embedding: Embedding
    rows: Float[Tensor, "batch query"]

    @property
    def last(self) -> AttentionRecord:
        """The attention of which the head reads ``rows``."""
        return self.pooling or self.blocks[-1]

    @property
    def all(self) -> tuple[AttentionRecord, ...]:
        """The attentions of the blocks and, last, the pooling."""
        return self.blocks if self.pooling is None else (*self.blocks, self.pooling)

    def as_read(self, last: AttentionMap) -> PerToken:
        """Of a map of the last attention, what the head reads: for each token of the stream, a mean over ``rows``."""
        read = (self.rows[:, None].to(last) @ last)[:, 0]
        return F.pad(read, (self.streams[-1].shape[1] - read.shape[1], 0))  # some heads leave the first rows out

    def relayed(self, maps: Sequence[Float[Tensor, "batch _ _"]]) -> PerToken:
        """What reaches the rows that are read through ``all``, a map for each: ``rows`` of the product of (1 + map).

        A pooling attention passes nothing by, so its map stands without the 1.
        """
        row = self.rows if self.pooling is None else self.as_read(maps[-1])
        for one in reversed(maps[: len(self.blocks)]):
            row = row + (row[:, None].to(one) @ one)[:, 0]
        return row


class AttentionRecorder(TorchFunctionMode):
    """Inside ``with``, attention is computed openly in this thread, and each is noted, in order, or none (``keep``)."""

    def __init__(self, keep: bool = True) -> None:
        super().__init__()
        self._keep = keep
        self._seen: list[AttentionRecord] = []
        self._factors: tuple[Tensor, Tensor] | None = None
        self._softmax: torch.Size | None = None

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Called for every torch function, with this mode switched off while it is at work."""
        kwargs = kwargs or {}
        if func is F.scaled_dot_product_attention:
            return self._attend(*args, **kwargs)
        if func is F.multi_head_attention_forward:
            return self._multi_head(func, args, kwargs)
        out = func(*args, **kwargs)
        if not self._keep:
            return out
        if func in _SOFTMAX and out.ndim == 4:
            self._softmax = out.shape
        elif func in _PRODUCT and out.ndim == 4:
            self._multiplied(args[0], args[1], out)
        return out

    def taken(self) -> list[AttentionRecord]:
        """What was seen since the last time."""
        seen, self._seen = self._seen, []
        return seen

    def _attend(
        self,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        attn_mask: Tensor | None = None,
        dropout_p: float = 0.0,
        is_causal: bool = False,
        scale: float | None = None,
        enable_gqa: bool = False,
    ) -> Tensor:
        """What the fused kernel computes, openly."""
        if enable_gqa:
            key, value = (one.repeat_interleave(query.shape[1] // one.shape[1], 1) for one in (key, value))
        logits = query @ key.mT * (query.shape[-1] ** -0.5 if scale is None else scale)
        if is_causal:
            attn_mask = torch.ones_like(logits[0, 0], dtype=torch.bool).tril()
        if attn_mask is not None and attn_mask.dtype == torch.bool:
            logits = logits.masked_fill(~attn_mask, torch.finfo(logits.dtype).min)
        elif attn_mask is not None:
            logits = logits + attn_mask
        precise = torch.promote_types(logits.dtype, torch.float32)  # as Transformers does it in half precision
        weights = logits.softmax(-1, dtype=precise).to(value.dtype)
        output = weights @ value
        if self._keep:
            self._seen.append(AttentionRecord(weights, query, key, value, output))
        return output

    def _multi_head(self, func: Any, args: Any, kwargs: Any) -> Any:
        """Torch's own function, with the fused kernel that it calls inside replaced for this one call.

        Where another mode of the caller's is on, the function hands itself to that mode, by its own name. So that name
        is replaced, too: otherwise the mode would call the original, with the fused kernel.
        """
        names = {**func.__globals__, "scaled_dot_product_attention": self._attend}
        own = FunctionType(func.__code__, names, func.__name__, func.__defaults__, func.__closure__)
        names["multi_head_attention_forward"] = own
        return own(*args, **{**kwargs, "need_weights": False})

    def _multiplied(self, left: Tensor, right: Tensor, out: Tensor) -> None:
        """The product after a softmax of the same shape is an attention; the one before it was of query and key."""
        if left.shape == self._softmax and self._factors is not None:
            self._seen.append(AttentionRecord(left, *self._factors, right, out))
            self._softmax = self._factors = None
        else:
            self._factors = left, right.mT


def collect(
    blocks: Sequence[AttentionRecord],
    streams: Sequence[Hidden],
    pooling: Sequence[AttentionRecord],
    embedding: Embedding,
) -> Attentions:
    """What was seen of blocks and head; ``rows`` are found by what of the last attention the embedding depends on.

    Raises:
        Unsupported: The head has several attentions.

    """
    if len(pooling) > 1:
        raise Unsupported(f"the head has {len(pooling)} attentions in a row; nibt reads heads with one at most")
    last = pooling[0] if pooling else blocks[-1]
    direction = torch.linspace(1, 2, embedding.shape[-1], dtype=torch.float32, device=embedding.device)
    (gradient,) = torch.autograd.grad((embedding.float() @ direction).sum(), last.output, retain_graph=True)
    read = (gradient != 0).any(-1).any(1).to(embedding.dtype)  # no other row reaches the embedding: exactly zero
    rows = read / read.sum(-1, keepdim=True).clamp_min(1)
    return Attentions(tuple(blocks), tuple(streams), pooling[0] if pooling else None, embedding, rows)


def only(seen: Sequence[AttentionRecord], block: int) -> AttentionRecord:
    """The attention of a block.

    Raises:
        Unsupported: It has none that could be seen, or several.

    """
    if len(seen) == 1:
        return seen[0]
    found = "several attentions" if seen else "no attention that can be seen"
    raise Unsupported(
        f"block {block} of this tower has {found}, where one is expected; load a Hugging Face model with "
        "attn_implementation='sdpa' or 'eager', or choose a method that needs no attention"
    )
