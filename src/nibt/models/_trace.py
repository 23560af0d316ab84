"""One recorded forward pass of a tower, which can be cut at its first tokens or at any layer.

The first tokens of an image are its patches with positions, before the first norm; for a convolutional trunk, which
adds no positions, they are the first feature map, its layer 0. The first tokens of a caption are its word embeddings
before positions are added.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor
from torch.utils._pytree import tree_flatten, tree_unflatten

from nibt.data.images import Region
from nibt.data.units import Units, Words
from nibt.errors import BadOption, Unsupported
from nibt.models._attention import (
    Attend,
    AttentionRecorder,
    AttentionReplacer,
    Attentions,
    OtherAttention,
    RowRecorder,
    RowsOf,
    collect,
    single_record,
)
from nibt.models._compiled import is_compiled
from nibt.options import Keywords
from nibt.preprocessing.images import Surroundings
from nibt.torch_modes import has_hooks
from nibt.types import AtNodes, Embedding, Hidden, States

See = Callable[[Tensor], Tensor | None]
"""Receives the first tokens, and returns their replacement or None."""


@dataclass(frozen=True)
class Inputs:
    """The prepared inputs of one batch.

    Attributes:
        values: Pixels or token ids.
        extra: Further inputs of the forward pass.
        words: For captions, the words that the rows stand for.
        around: For images, what the crop leaves out.
        regions: For images, the parts of the originals that the tower sees.
        notes: The warnings of each item.
    """

    values: Tensor
    extra: dict[str, Tensor] = field(default_factory=dict)
    words: Words | None = None
    around: tuple[Surroundings, ...] = ()
    regions: tuple[Region, ...] = ()
    notes: tuple[tuple[str, ...], ...] = ()

    def __len__(self) -> int:
        return len(self.values)

    def take(self, rows: Sequence[int]) -> "Inputs":
        """Return a batch of the items at ``rows``, which may repeat."""
        index = torch.tensor(rows, device=self.values.device)
        words = self.words and Words(
            tuple(self.words.tokens[row] for row in rows),
            tuple(self.words.words[row] for row in rows),
            self.words.explained[torch.tensor(rows, device=self.words.explained.device)],
        )
        return Inputs(
            self.values[index],
            {key: value[index] for key, value in self.extra.items()},
            words,
            tuple(self.around[row] for row in rows) if self.around else (),
            tuple(self.regions[row] for row in rows) if self.regions else (),
            tuple(self.notes[row] for row in rows) if self.notes else (),
        )


@dataclass(frozen=True)
class Cut:
    """A tower cut at a layer.

    Attributes:
        hidden: The hidden state that enters the layer.
        units: What its rows stand for.
        rest: Computes the embeddings of several such states at once.
        mapped: Whether ``torch.func.vmap`` supports ``rest``.
    """

    hidden: Hidden
    units: Units
    rest: Callable[[States], AtNodes]
    mapped: bool = True


@dataclass(frozen=True)
class Trace:
    """One forward pass of a tower: its embedding, and the inputs of each block, so that it can be cut at any layer.

    Some decoders add features of the image to the hidden state after each of their first blocks (DeepStack). These
    bypass the layers before. The state at a layer therefore has the features that are still to be added beside it, as
    further columns, so that a path from a baseline narrows them, too.
    """

    tower: Any  # a Tower, whose module imports this one
    inputs: Inputs
    embedding: Embedding
    calls: tuple[tuple[tuple, Keywords], ...]
    streams: tuple[Tensor | None, ...]
    additions: int = 0
    """After how many of the first blocks features are added."""

    def cut(self, layer: int) -> Cut:
        """Cut the tower where a state enters block ``layer``; layer ``depth`` is the output of the last block."""
        tower = self.tower
        tower.check_layer(layer)
        stream, head_inputs = self.streams[layer], tower.head_inputs(self.inputs)
        assert stream is not None, f"traced above layer {layer}"

        def rest(states: States) -> AtNodes:
            count, blocks = len(states), tower.blocks
            # features that are added after each of the next blocks are columns beside the hidden state
            running, *pending = tower.to_stream(states.flatten(0, 1), stream).chunk(
                1 + max(0, self.additions - layer), -1
            )
            index = torch.arange(len(self.inputs.values), device=stream.device).repeat(count)
            extra = {key: value[index.to(value.device)] for key, value in head_inputs.items()}
            embedding = None
            with tower.computing():
                for number in range(layer, len(blocks)):
                    call = self.calls[number]
                    args, kwargs = call if count == 1 else self._at(call, index)  # one block's, since masks are large
                    if number == len(blocks) - 1 and not has_hooks(blocks[number]):
                        embedding = tower.last(running, extra, args, kwargs)
                    if embedding is None:
                        running = blocks[number](running, *args, **kwargs)
                        running = running[0] if isinstance(running, tuple | list) else running
                        running = running + pending.pop(0) if pending else running
                embedding = tower.after(tower.head(running, extra) if embedding is None else embedding)
            return embedding.unflatten(0, (count, -1))

        return Cut(tower.to_tokens(stream), tower.units(self.inputs, stream), rest, tower.mapped)

    def block(self, number: int, rows: int) -> Cut:
        """Cut out one block: ``rest`` computes the first rows of its output, one after the other.

        Features that are added after the block are left out.
        """
        tower, stream, call = self.tower, self.streams[number], self.calls[number]
        assert stream is not None, f"traced above layer {number}"
        hidden = tower.to_tokens(stream)

        def rest(states: States) -> AtNodes:
            running = tower.to_stream(states.flatten(0, 1), stream)
            index = torch.arange(len(hidden), device=stream.device).repeat(len(states))
            args, kwargs = call if len(states) == 1 else self._at(call, index)
            with tower.computing():
                block = tower.blocks[number]
                out = None if has_hooks(block) else tower.first_rows(number, running, rows, args, kwargs)
                if out is None:
                    out = tower.to_tokens(first(block(running, *args, **kwargs)))[:, :rows]
            return out.flatten(1).unflatten(0, (len(states), -1))

        return Cut(hidden, tower.units(self.inputs, stream), rest, tower.mapped)

    def attentions(self, layer: int = 0) -> Attentions:
        """Replay the blocks from a layer on and the head with a graph, and record their attentions."""
        tower = self.tower
        if not 0 <= layer < tower.depth:
            raise BadOption(
                f"layer must be between 0 and {tower.depth - 1}, since a block must follow it (got {layer})"
            )
        running, pending = self._split(self.recordable(layer).detach().requires_grad_(), layer)
        blocks, streams = [], []
        with tower.computing(), torch.enable_grad(), AttentionRecorder() as recorder:
            for number, (args, kwargs) in enumerate(self.calls[layer:], layer):
                running = _added(first(tower.blocks[number](running, *args, **kwargs)), pending)
                blocks.append(single_record(recorder.take_records(), number))
                streams.append(tower.to_tokens(running))
            embedding = tower.after(tower.head(running, tower.head_inputs(self.inputs)))
            return collect(blocks, streams, recorder.take_records(), embedding)

    def attention_rows(self) -> Iterator[RowsOf]:
        """Replay the blocks without a graph, from the last on, and yield what computes rows of their weights."""
        tower = self.tower
        for number in reversed(range(tower.depth)):
            running, _ = self._split(self.recordable(number), number)
            args, kwargs = self.calls[number]
            with tower.computing(), torch.no_grad(), RowRecorder() as recorder:
                tower.blocks[number](running, *args, **kwargs)
            yield single_record(recorder.attentions, number)

    def with_attention(self, number: int, attend: Attend) -> OtherAttention:
        """Replay one block on its own input without a graph, with what ``attend`` makes of its recorded attention."""
        tower, (args, kwargs) = self.tower, self.calls[number]
        running, pending = self._split(self.recordable(number), number)
        with tower.computing(), torch.no_grad(), AttentionReplacer(attend, running) as replacer:
            out = first(tower.blocks[number](running, *args, **kwargs))
        single_record(replacer.take_records(), number)
        if replacer.added is None:
            raise Unsupported(
                f"block {number} of this {tower.modality} tower does not add its attention to its input: use a method "
                "that needs no attention"
            )
        return OtherAttention(tower.to_tokens(replacer.added), tower.to_tokens(_added(out, pending)))

    @property
    def pools_by_attention(self) -> bool:
        """Whether the head has an attention, which is then the last one."""
        tower = self.tower
        stream = self.recordable(tower.depth)
        with tower.computing(), torch.no_grad(), AttentionRecorder() as recorder:
            tower.head(stream, tower.head_inputs(self.inputs))
        return bool(recorder.take_records())

    def recordable(self, layer: int) -> Tensor:
        """Return the hidden state of a layer of a tower whose attentions can be recorded."""
        tower, stream = self.tower, self.streams[layer]
        assert stream is not None, f"traced above layer {layer}"
        if is_compiled(tower.root):
            raise Unsupported(
                f"parts of this {tower.modality} tower were compiled by torch.compile after it was loaded, so its "
                "attention cannot be recorded: pass the compiled model to load_model again to explain it uncompiled"
            )
        return stream

    def _split(self, stream: Tensor, layer: int) -> tuple[Tensor, list[Tensor]]:
        """Return the hidden state of a layer, and the features that are added after each of the next blocks."""
        running, *pending = stream.chunk(1 + max(0, self.additions - layer), -1)
        return running, pending

    def take(self, rows: Sequence[int]) -> "Trace":
        """Return the trace of the items at ``rows``, which may repeat: one forward pass serves many captions."""
        tower, index = self.tower, torch.tensor(rows, device=self.embedding.device)
        return replace(
            self,
            inputs=self.inputs.take(rows),
            embedding=self.embedding[index],
            calls=tuple(self._at(call, index) for call in self.calls),
            streams=tuple(
                stream if stream is None else tower.to_stream(tower.to_tokens(stream)[index], stream)
                for stream in self.streams
            ),
        )

    def above(self, lowest: int) -> "Trace":
        """Return the trace without the hidden states below a layer, as a forward pass that does not keep them."""
        return replace(self, streams=(*(None for _ in self.streams[:lowest]), *self.streams[lowest:]))

    def _at(self, call: tuple[tuple, Keywords], index: Tensor) -> tuple[tuple, Keywords]:
        """Return the inputs of a block for the items at ``index``, which may repeat.

        The first dimension of a tensor is the batch, or the batch times the heads, as in masks. A tensor with fewer
        than three dimensions (a causal mask, positions) is shared by the batch, and so is a tensor of length 1.
        """
        leaves, structure = tree_flatten(call, lambda value: not isinstance(value, tuple | list | dict))
        count, shared = len(self.inputs.values), self.tower.shared
        for place, leaf in enumerate(leaves):
            if isinstance(leaf, Tensor) and leaf.ndim >= 3 and len(leaf) % count == 0:
                leaves[place] = leaf.unflatten(0, (count, -1)).index_select(0, index.to(leaf.device)).flatten(0, 1)
        args, kwargs = tree_unflatten(leaves, structure)
        return args, {key: call[1][key] if key in shared else value for key, value in kwargs.items()}


def first(out: Any) -> Tensor:
    """Return the hidden state, which is the first output of a block with several outputs."""
    return out[0] if isinstance(out, tuple | list) else out


def _added(running: Tensor, pending: list[Tensor]) -> Tensor:
    """Add the features that come next, if there are any."""
    return running + pending.pop(0) if pending else running


def cut_stem(tower: Any, inputs: Inputs) -> Cut:
    """Cut a tower at its first tokens.

    The rest of the tower is the model's own forward pass, in which a hook replaces the first tokens.
    """
    streams: list[Tensor] = []
    with torch.no_grad(), tower.computing(), tower.on_first_tokens(streams.append):
        tower.run(inputs)
    (stream,) = streams

    def rest(states: States) -> AtNodes:
        tiled = inputs.take(list(range(len(inputs))) * len(states)) if len(states) > 1 else inputs
        with tower.computing(), tower.on_first_tokens(lambda _: tower.to_stream(states.flatten(0, 1), stream)):
            return tower.after(tower.run(tiled)).unflatten(0, (len(states), -1))

    return Cut(tower.to_tokens(stream.detach()), tower.units(inputs, stream), rest)
