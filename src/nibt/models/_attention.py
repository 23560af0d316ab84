"""Recording of attention in an unmodified model, whatever kernel computes it.

Inside ``AttentionRecorder`` every attention of this thread is computed explicitly as softmax(q k^T) v and recorded with
its inputs and output, on one autograd graph with everything that follows. The model is not changed: no hook is
registered and no implementation is replaced, so nothing has to be restored, and threads do not interfere. All families
end in one of three calls: the fused kernel (Transformers, timm, OpenCLIP), torch's multi-head attention (which hides
that kernel from an override of its own), or two matrix products with a softmax between them (the eager attention of
Transformers and timm).
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from types import FunctionType
from typing import Any, NamedTuple, TypeVar

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor
from torch.overrides import TorchFunctionMode

from nibt.errors import BadOption, Unsupported
from nibt.models._compiled import is_compiled
from nibt.models._tower import Trace, first, with_added
from nibt.options import Keywords
from nibt.torch_modes import TorchFunction
from nibt.types import Embedding, Hidden, PerToken

Recorded = TypeVar("Recorded")
Weights = Float[Tensor, "batch head query key"]
AttentionMap = Float[Tensor, "batch query key"]  # weights, combined over the heads

_SOFTMAX = {F.softmax, torch.softmax, Tensor.softmax}
_PRODUCT = {torch.matmul, Tensor.matmul, Tensor.__matmul__}


@dataclass(frozen=True)
class AttentionRecord:
    """One attention: its weights, their inputs, and its output before the projection that mixes the heads.

    The rows of the weights add up to 1.
    """

    weights: Weights
    query: Float[Tensor, "batch head query channel"]
    key: Float[Tensor, "batch head key channel"]
    value: Float[Tensor, "batch head key width"]
    output: Float[Tensor, "batch head query width"]


@dataclass(frozen=True)
class Attentions:
    """The attentions of the blocks from a layer on, on one graph with the embedding.

    Attributes:
        blocks: The attentions of the blocks.
        streams: The hidden state that leaves each of these blocks.
        pooling: The attention with which the head pools, if it has one. It is then the last attention.
        embedding: The joint embedding.
        rows: The weights of the rows of the last attention in the embedding. The class or the end token has weight 1;
            rows that the head averages have equal weights; for attention pooling the pooling query has weight 1.
    """

    blocks: tuple[AttentionRecord, ...]
    streams: tuple[Hidden, ...]
    pooling: AttentionRecord | None
    embedding: Embedding
    rows: Float[Tensor, "batch query"]

    @property
    def last(self) -> AttentionRecord:
        """The last attention, whose ``rows`` enter the embedding."""
        return self.pooling or self.blocks[-1]

    @property
    def all(self) -> tuple[AttentionRecord, ...]:
        """The attentions of the blocks and, last, the pooling."""
        return self.blocks if self.pooling is None else (*self.blocks, self.pooling)

    def read_by_head(self, last: AttentionMap) -> PerToken:
        """Compute the mean of a map of the last attention over ``rows``, for each token of the hidden state."""
        scores = (self.rows[:, None].to(last) @ last)[:, 0]
        return F.pad(scores, (self.streams[-1].shape[1] - scores.shape[1], 0))  # some heads drop the first rows

    def propagate(self, maps: Sequence[Float[Tensor, "batch _ _"]]) -> PerToken:
        """Compute ``rows`` of the product of (1 + map) over the maps of all attentions.

        A pooling attention has no residual connection, so its map is not added to 1.
        """
        row = self.rows if self.pooling is None else self.read_by_head(maps[-1])
        for block_map in reversed(maps[: len(self.blocks)]):
            row = row + (row[:, None].to(block_map) @ block_map)[:, 0]
        return row


class AttentionRecorder(TorchFunctionMode):
    """Context that computes attention explicitly in this thread, and records each one in order."""

    def __init__(self, keep: bool = True) -> None:
        super().__init__()
        self._keep = keep
        self._records: list[AttentionRecord] = []
        self._factors: tuple[Tensor, Tensor] | None = None
        self._softmax: torch.Size | None = None

    def __torch_function__(
        self, func: TorchFunction, types: Sequence[type], args: tuple = (), kwargs: Keywords | None = None
    ) -> Any:
        """Handle a torch function; torch disables this mode during the call."""
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
            return self._multiplied(args[0], args[1], out)

        return out

    def attended(self, record: AttentionRecord) -> Tensor:
        """Keep the record of an attention, and return its output."""
        self._records.append(record)
        return record.output

    def take_records(self) -> list[AttentionRecord]:
        """Return the attentions recorded since the last call."""
        records = self._records
        self._records = []
        return records

    def _attend(self, *args: Any, **kwargs: Any) -> Tensor:
        """Compute the attention of the fused kernel explicitly."""
        query, key, value, weights_of = _fused(*args, **kwargs)
        weights = weights_of(None).to(value.dtype)
        output = weights @ value
        return self.attended(AttentionRecord(weights, query, key, value, output)) if self._keep else output

    def _multi_head(self, func: FunctionType, args: tuple, kwargs: Keywords) -> Tensor | tuple[Tensor, Tensor | None]:
        """Call torch's function with its fused kernel replaced for this call.

        If another torch function mode is active, the function passes itself to that mode by its global name. That name
        is therefore replaced, too; otherwise the mode would call the original with the fused kernel.
        """
        names = {**func.__globals__, "scaled_dot_product_attention": self._attend}
        explicit = FunctionType(func.__code__, names, func.__name__, func.__defaults__, func.__closure__)
        names["multi_head_attention_forward"] = explicit
        return explicit(*args, **{**kwargs, "need_weights": False})

    def _multiplied(self, left: Tensor, right: Tensor, out: Tensor) -> Tensor:
        """Record a matrix product after a softmax of the same shape; the product before it was query times key."""
        if left.shape == self._softmax and self._factors is not None:
            record = AttentionRecord(left, *self._factors, right, out)
            self._softmax = None
            self._factors = None
            return self.attended(record)
        self._factors = left, right.mT
        return out


RowsOf = Callable[[Int[Tensor, " row"] | None], Float[Tensor, "batch head row key"]]
"""Computes rows of the weights of an attention; None means all."""


def _fused(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attn_mask: Tensor | None = None,
    dropout_p: float = 0.0,
    is_causal: bool = False,
    scale: float | None = None,
    enable_gqa: bool = False,
) -> tuple[Tensor, Tensor, Tensor, RowsOf]:
    """Read the arguments of the fused kernel, which keeps no weights, and return what computes rows of these."""
    if enable_gqa:
        key, value = (heads.repeat_interleave(query.shape[1] // heads.shape[1], 1) for heads in (key, value))
    query = query.to(key.dtype)  # a query of weights in half precision

    def weights_of(rows: Tensor | None) -> Tensor:
        logits = (query if rows is None else query[..., rows, :]) @ key.mT
        logits = logits * (query.shape[-1] ** -0.5 if scale is None else scale)
        mask = attn_mask
        if is_causal:
            queries = torch.arange(query.shape[-2], device=query.device) if rows is None else rows
            mask = torch.arange(key.shape[-2], device=query.device) <= queries[:, None]
        elif mask is not None and rows is not None:
            mask = mask.expand(*mask.shape[:-2], query.shape[-2], -1)[..., rows, :]

        if mask is not None and mask.dtype == torch.bool:
            logits = logits.masked_fill(~mask, torch.finfo(logits.dtype).min)
        elif mask is not None:
            logits = logits + mask

        # in float32 or more, as Transformers does it in half precision
        return logits.softmax(-1, dtype=torch.promote_types(logits.dtype, torch.float32))

    return query, key, value, weights_of


class RowRecorder(TorchFunctionMode):
    """Context that leaves the attentions of this thread as they are, and keeps what computes rows of their weights.

    So nothing has the size of all rows times all keys, unless the model itself computes it.
    """

    def __init__(self) -> None:
        super().__init__()
        self.attentions: list[RowsOf] = []

    def __torch_function__(
        self, func: TorchFunction, types: Sequence[type], args: tuple = (), kwargs: Keywords | None = None
    ) -> Any:
        """Handle a torch function; torch disables this mode during the call."""
        out = func(*args, **(kwargs or {}))
        if func is F.scaled_dot_product_attention:
            self.attentions.append(_fused(*args, **(kwargs or {}))[-1])
        elif func in _SOFTMAX and out.ndim == 4:
            self.attentions.append(lambda rows: out if rows is None else out[..., rows, :])
        return out


def _collect(
    blocks: Sequence[AttentionRecord],
    streams: Sequence[Hidden],
    pooling: Sequence[AttentionRecord],
    embedding: Embedding,
) -> Attentions:
    """Combine the records of blocks and head; ``rows`` are those on which the embedding depends."""
    if len(pooling) > 1:
        raise Unsupported(f"the head has {len(pooling)} attentions in a row; nibt supports heads with at most one")

    last = pooling[0] if pooling else blocks[-1]

    # channels have different weights, since the plain sum of what a norm centers never changes
    direction = torch.linspace(1, 2, embedding.shape[-1], dtype=torch.float32, device=embedding.device)
    (gradient,) = torch.autograd.grad((embedding.float() @ direction).sum(), last.output, retain_graph=True)
    used = (gradient != 0).any(-1).any(1).to(embedding.dtype)  # of rows that are not read, it is exactly 0
    rows = used / used.sum(-1, keepdim=True).clamp_min(1)
    return Attentions(tuple(blocks), tuple(streams), pooling[0] if pooling else None, embedding, rows)


def single_record(records: Sequence[Recorded], block: int) -> Recorded:
    """Return the only attention of a block."""
    if len(records) == 1:
        return records[0]

    problem = "several attentions" if records else "no attention that can be recorded"
    raise Unsupported(
        f"block {block} of this tower has {problem}, and exactly one is needed: load a Hugging Face model with "
        "attn_implementation='sdpa' or 'eager', or use a method that needs no attention (convolutions and linear "
        "attention have no weights)"
    )


Attend = Callable[[AttentionRecord], Tensor]
"""Computes the output of an attention, (batch, head, query, width), in place of the recorded one."""

SUMS = {torch.add, Tensor.add, Tensor.add_, Tensor.__add__, Tensor.__radd__, Tensor.__iadd__}


class OtherAttention(NamedTuple):
    """What another attention adds to the hidden state of a block, and the state that then leaves the block."""

    added: Hidden
    stream: Hidden


class AttentionReplacer(AttentionRecorder):
    """Context that replaces the output of each attention in this thread, and notes what it adds to a hidden state.

    Every block adds the output of its attention, after projections and scales, to the hidden state that enters it. This
    is the first sum after the attention in which that state is an operand; the other operand is noted.
    """

    def __init__(self, attend: Attend, stream: Tensor) -> None:
        super().__init__()
        self._attend_instead = attend
        self._stream = stream
        self.added: Tensor | None = None

    def attended(self, record: AttentionRecord) -> Tensor:
        super().attended(record)
        return self._attend_instead(record)

    def __torch_function__(
        self, func: TorchFunction, types: Sequence[type], args: tuple = (), kwargs: Keywords | None = None
    ) -> Any:
        """Handle a torch function; torch disables this mode during the call."""
        if self.added is None and self._records and func in SUMS and any(term is self._stream for term in args[:2]):
            self.added = args[1] if args[0] is self._stream else args[0]
        return super().__torch_function__(func, types, args, kwargs)


def record_attentions(trace: Trace, layer: int = 0) -> Attentions:
    """Replay the blocks from a layer on and the head with a graph, and record their attentions."""
    tower = trace.tower
    if not 0 <= layer < tower.depth:
        raise BadOption(f"layer must be between 0 and {tower.depth - 1}, since a block must follow it (got {layer})")

    running, pending = trace.split(recordable(trace, layer).detach().requires_grad_(), layer)
    blocks = []
    streams = []
    with tower.computing(), torch.enable_grad(), AttentionRecorder() as recorder:
        for number, (args, kwargs) in enumerate(trace.calls[layer:], layer):
            running = with_added(first(tower.blocks[number](running, *args, **kwargs)), pending)
            blocks.append(single_record(recorder.take_records(), number))
            streams.append(tower.to_tokens(running))

        embedding = tower.after(tower.head(running, tower.head_inputs(trace.inputs)))
        return _collect(blocks, streams, recorder.take_records(), embedding)


def attention_rows(trace: Trace) -> Iterator[RowsOf]:
    """Replay the blocks without a graph, from the last on, and yield what computes rows of their weights."""
    tower = trace.tower
    for number in reversed(range(tower.depth)):
        running, _ = trace.split(recordable(trace, number), number)
        args, kwargs = trace.calls[number]
        with tower.computing(), torch.no_grad(), RowRecorder() as recorder:
            tower.blocks[number](running, *args, **kwargs)
        yield single_record(recorder.attentions, number)


def with_attention(trace: Trace, number: int, attend: Attend) -> OtherAttention:
    """Replay one block on its own input without a graph, with what ``attend`` makes of its recorded attention."""
    tower = trace.tower
    args, kwargs = trace.calls[number]
    running, pending = trace.split(recordable(trace, number), number)
    with tower.computing(), torch.no_grad(), AttentionReplacer(attend, running) as replacer:
        out = first(tower.blocks[number](running, *args, **kwargs))

    single_record(replacer.take_records(), number)
    if replacer.added is None:
        raise Unsupported(
            f"block {number} of this {tower.modality} tower does not add its attention to its input: use a method that "
            "needs no attention"
        )
    return OtherAttention(tower.to_tokens(replacer.added), tower.to_tokens(with_added(out, pending)))


def pools_by_attention(trace: Trace) -> bool:
    """Return whether the head has an attention, which is then the last one."""
    tower = trace.tower
    stream = recordable(trace, tower.depth)
    with tower.computing(), torch.no_grad(), AttentionRecorder() as recorder:
        tower.head(stream, tower.head_inputs(trace.inputs))
    return bool(recorder.take_records())


def recordable(trace: Trace, layer: int) -> Tensor:
    """Return the hidden state of a layer of a tower whose attentions can be recorded."""
    tower = trace.tower
    stream = trace.streams[layer]
    assert stream is not None, f"traced above layer {layer}"
    if is_compiled(tower.root):
        raise Unsupported(
            f"parts of this {tower.modality} tower were compiled by torch.compile after it was loaded, so its "
            "attention cannot be recorded: pass the compiled model to load_model again to explain it uncompiled"
        )
    return stream
