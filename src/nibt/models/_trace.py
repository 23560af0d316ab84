"""One forward pass of a tower, remembered: what went in, what each block was given, and the tail from any layer on."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from nibt.data.images import Region
from nibt.data.units import Units, Words
from nibt.errors import BadOption, Unsupported
from nibt.models._attention import AttentionRecorder, Attentions, collect, only
from nibt.models._compiled import is_compiled
from nibt.types import Embedding, Hidden, States


@dataclass(frozen=True)
class Inputs:
    """One batch, ready for a tower: its pixels or token ids, and whatever else its forward pass takes.

    ``regions`` (images) are the parts of the originals that the tower sees, ``words`` (captions) what the
    rows stand for, ``notes`` what the reader of each item's map ought to know.
    """

    values: Tensor
    extra: dict[str, Tensor] = field(default_factory=dict)
    words: Words | None = None
    regions: tuple[Region, ...] = ()
    notes: tuple[tuple[str, ...], ...] = ()

    def __len__(self) -> int:
        return len(self.values)

    def take(self, rows: Sequence[int]) -> "Inputs":
        """The batch of these items, each as often as it is named."""
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
            tuple(self.regions[row] for row in rows) if self.regions else (),
            tuple(self.notes[row] for row in rows) if self.notes else (),
        )

    def item(self, index: int) -> "Inputs":
        """The batch that holds this one item only."""
        return self.take([index])


@dataclass(frozen=True)
class Cut:
    """A tower cut at a layer: the hidden state that reaches it, what its rows stand for, and the rest as a
    function of several such states at once; ``mapped`` tells whether torch can map that function over directions.
    """

    hidden: Hidden
    units: Units
    rest: Callable[[States], Float[Tensor, "node batch dim"]]
    mapped: bool = True


@dataclass(frozen=True)
class Trace:
    """One forward pass of a tower: its embedding, and what each block was given, so that any layer can be cut."""

    tower: Any  # the Tower of base.py, which stands on this file
    inputs: Inputs
    embedding: Embedding
    calls: tuple[tuple[tuple, dict[str, Any]], ...]
    streams: tuple[Tensor | None, ...]

    def cut(self, layer: int) -> Cut:
        """Cut the tower where the stream enters block ``layer``; ``depth`` is what leaves the last block.

        Raises:
            BadOption: There is no such layer.

        """
        tower = self.tower
        tower.check_layer(layer)
        stream, read = self.streams[layer], tower.read(self.inputs)
        assert stream is not None, f"traced above layer {layer}"

        def rest(states: States) -> Float[Tensor, "node batch dim"]:
            count = len(states)
            running, embedding = tower.to_stream(states.flatten(0, 1), stream), None
            told = {key: _repeated(value, count) for key, value in read.items()}
            with tower.lock:
                for number, call in enumerate(self.calls[layer:], layer):
                    args, kwargs = self._tiled(call, count)  # a block at a time: masks of many states are large
                    if number == tower.depth - 1:
                        embedding = tower.last(running, told, args, kwargs)
                    if embedding is None:
                        running = first(tower.blocks[number](running, *args, **kwargs))
                embedding = tower.head(running, told) if embedding is None else embedding
            return embedding.unflatten(0, (count, -1))

        return Cut(tower.to_tokens(stream), tower.units(self.inputs, stream), rest, tower.mapped)

    def attentions(self, layer: int = 0) -> Attentions:
        """Replay the blocks from a layer on, and the head, with a graph, and see each attention on the way.

        Raises:
            BadOption: No block follows the layer.
            Unsupported: A block has no attention that can be seen, or the head has several.

        """
        tower = self.tower
        if not 0 <= layer < tower.depth:
            raise BadOption(f"a block must follow the layer: it must lie in 0..{tower.depth - 1} (got {layer})")
        stream = self.streams[layer]
        assert stream is not None, f"traced above layer {layer}"
        if is_compiled(tower.root):
            raise Unsupported(
                f"parts of this {tower.modality} tower were compiled by torch.compile after it was loaded, so its "
                "attention cannot be seen: give the compiled model to load_model again, which explains it uncompiled"
            )
        running, blocks, streams = stream.detach().requires_grad_(), [], []
        with tower.lock, torch.enable_grad(), AttentionRecorder() as watch:
            for number, (args, kwargs) in enumerate(self.calls[layer:], layer):
                running = first(tower.blocks[number](running, *args, **kwargs))
                blocks.append(only(watch.taken(), number))
                streams.append(tower.to_tokens(running))
            embedding = tower.head(running, tower.read(self.inputs))
            return collect(blocks, streams, watch.taken(), embedding)

    def take(self, rows: Sequence[int]) -> "Trace":
        """The trace of these items, each as often as it is named: one forward pass serves many captions."""
        index = torch.tensor(rows, device=self.embedding.device)

        def chosen(value: Tensor) -> Tensor:
            return value.unflatten(0, (len(self.inputs), -1))[index].flatten(0, 1)

        return replace(
            self,
            inputs=self.inputs.take(rows),
            embedding=self.embedding[index],
            calls=self._each(self.calls, chosen),
            streams=tuple(None if stream is None else stream[index] for stream in self.streams),
        )

    def _tiled(self, value: Any, count: int) -> Any:
        """What follows the batch, repeated for as many states."""
        return value if count == 1 else self._each(value, lambda tensor: _repeated(tensor, count))

    def _each(self, value: Any, change: Callable[[Tensor], Tensor], name: str = "") -> Any:
        """Change what follows the batch: masks of shape batch, or batch x heads, first.

        A tensor of fewer than three dimensions (a causal mask, places) is shared by the batch, and so is one of length
        1.
        """
        if name in self.tower.shared:
            return value
        if isinstance(value, Tensor):
            follows = value.ndim >= 3 and len(value) % len(self.inputs) == 0
            return change(value) if follows else value
        if isinstance(value, dict):
            return {key: self._each(part, change, key) for key, part in value.items()}
        if isinstance(value, tuple | list):
            return type(value)(self._each(part, change) for part in value)
        return value


def first(out: Any) -> Tensor:
    """The stream, where a block also gives other things."""
    return out[0] if isinstance(out, tuple | list) else out


def _repeated(tensor: Tensor, count: int) -> Tensor:
    return tensor.repeat(count, *(1,) * (tensor.ndim - 1))
