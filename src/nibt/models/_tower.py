"""A tower, the encoder of one side of a model: a stem, a sequence of blocks and a head, and one recorded pass of it.

It is the part of the contract of models that image and text towers share.
"""

import threading
from abc import ABC, abstractmethod
from collections import OrderedDict
from collections.abc import Callable, Hashable, Sequence
from contextlib import AbstractContextManager, ExitStack, nullcontext
from dataclasses import dataclass, replace
from functools import cached_property
from operator import attrgetter, itemgetter
from typing import Any, ClassVar, Generic, TypeVar
from weakref import WeakKeyDictionary

import torch
from jaxtyping import Bool, Int
from torch import Tensor, nn
from torch.utils._pytree import tree_flatten, tree_unflatten
from torch.utils.hooks import RemovableHandle

from nibt.data.images import ImageInput
from nibt.data.units import Units, special_tokens
from nibt.errors import BadOption, Unsupported
from nibt.models._inputs import Cut, Inputs, See
from nibt.models._lines import OnTrack, Track
from nibt.models._precision import HALF, computing_dtype, float32_arithmetic, is_quantized
from nibt.options import Keywords, Layers, parsed
from nibt.torch_modes import has_hooks, set_hook
from nibt.types import AtNodes, Embedding, Hidden, Modality, States

_Item = TypeVar("_Item", ImageInput, str)
_LOCKS: "WeakKeyDictionary[nn.Module, threading.RLock]" = WeakKeyDictionary()


def part(path: str, convert: Callable[[Any], Any] = lambda value: value) -> Any:
    """Return the part of a tower at a path from it, such as ``root.vision_model``, as an attribute that is kept.

    ``convert`` makes the attribute of the part, as ``list`` of blocks.
    """
    return cached_property(lambda tower: convert(attrgetter(path)(tower)))


def first_of(*names: str) -> Callable[[Any], Any]:
    """Return the function that returns the part of a module with the first of these names that it has."""
    return lambda module: next(getattr(module, name) for name in names if hasattr(module, name))


def first(out: Any) -> Tensor:
    """Return the hidden state, which is the first output of a block with several outputs."""
    return out[0] if isinstance(out, tuple | list) else out


def rows_at(
    tokens: Tensor, count: int, end: Int[Tensor, " item"] | None, items: Int[Tensor, " batch"] | None = None
) -> Tensor:
    """Return the first rows of each item of a batch, or the row at its end; ``items`` names the item of each."""
    if end is None:
        return tokens[:, :count]
    of_batch = end if items is None else end[items]
    return tokens[torch.arange(len(tokens), device=tokens.device), of_batch][:, None]


def with_added(running: Tensor, pending: list[Tensor]) -> Tensor:
    """Add the features that come next, if there are any."""
    return running + pending.pop(0) if pending else running


class Tower(ABC, Generic[_Item]):
    """Base class of the encoders of a model.

    Layer ``k`` is the hidden state that enters block ``k``: layer 0 follows the stem, layer ``depth`` precedes the
    head.
    """

    modality: ClassVar[Modality]
    positional: ClassVar[bool] = True
    """Whether states depend on the position; if not, as in convolutional trunks, a mean state serves any grid."""
    shared: ClassVar[frozenset[str]] = frozenset({"rope", "position_embeddings"})
    """Keyword arguments of the blocks that all items of a batch share."""
    offers: ClassVar[frozenset[str]] = frozenset({"states", "attention", "stem"})
    """What this tower offers to methods."""
    shiftable: ClassVar[bool] = False
    """Whether inputs are images that can be shifted."""
    unread_layers: ClassVar[int] = 0
    """How many of the last layers have no unit that the output reads: that of a word in a decoder reads its own row."""
    reads_first_row: bool = False
    """Whether the head reads only the first row, such as a class token."""
    mapped: ClassVar[bool] = True
    """Whether ``torch.func.vmap`` supports the tower; it does not support some kinds of pooling."""
    images: int = 1
    """The number of images of an input, which are side by side."""
    distributes: bool = True
    """Whether the scores of special tokens can be distributed among the units, block by block."""
    kept_blanks: ClassVar[int] = 16
    """The largest number of blank inputs, of different sizes or caption lengths, whose states are cached."""
    additions: Callable[[], AbstractContextManager[list[Tensor]]] | None = None
    """Records what the model adds to the hidden state after its first blocks, inside ``with``; most add nothing."""
    root: nn.Module
    after: nn.Module = nn.Identity()
    """What is applied to embeddings after the model, as by folders of sentence-transformers."""

    def __init__(self) -> None:
        self.kept: dict[Hashable, Any] = {}  # what was computed with these weights

    def __getstate__(self) -> dict[str, Any]:
        """Return what a copy has: all but the parts that properties name, which may be replaced in it, and the lock."""
        return {k: v for k, v in vars(self).items() if not isinstance(getattr(type(self), k, None), cached_property)}

    def become(self, other: "Tower") -> None:
        """Take the parts of a tower that was made anew of the same model."""
        other.after = self.after
        vars(self).clear()
        vars(self).update(vars(other))

    @property
    @abstractmethod
    def blocks(self) -> list[nn.Module]:
        """The blocks, in order. Each takes the hidden state as its first argument and returns it first."""

    @abstractmethod
    def run(self, inputs: Inputs) -> Embedding:
        """Run the model's own forward pass, up to the joint embedding."""

    @abstractmethod
    def head(self, stream: Tensor, extra: dict[str, Tensor]) -> Embedding:
        """Compute the joint embedding from the output of the last block and the other inputs of the head."""

    def last(self, stream: Tensor, extra: dict[str, Tensor], args: tuple, kwargs: Keywords) -> Embedding | None:
        """Compute the embedding from the input of the last block, for only the row that the head reads.

        This is an optional optimization, for blocks without hooks; None runs the whole block. ``extra`` are the other
        inputs of the head, ``args`` and ``kwargs`` those of the block.
        """
        row = self.first_rows(self.depth - 1, stream, 1, args, kwargs) if self.reads_first_row else None
        return None if row is None else self.head(row, extra)

    def first_rows(
        self, number: int, stream: Tensor | OnTrack, count: int, args: tuple, kwargs: Keywords
    ) -> Tensor | None:
        """Compute the first ``count`` rows of the output of a block without the others: (batch, count, width).

        This is an optional optimization, for blocks without hooks; None runs the whole block.
        """
        return None

    def end_row(self, inputs: Inputs) -> Int[Tensor, " batch"] | None:
        """Return the row that the head reads, if no other special token takes up anything of the units: None otherwise.

        It is the end token of a causal tower: the start token sees no unit, and no unit is read through the padding.
        """
        return None

    def one_row(
        self, number: int, stream: Tensor | OnTrack, row: Int[Tensor, " batch"], args: tuple, kwargs: Keywords
    ) -> Tensor | None:
        """Compute one row of each item in the output of a block without the others: (batch, 1, width).

        This is an optional optimization, for blocks without hooks; None runs the whole block.
        """
        return None

    def head_inputs(self, inputs: Inputs) -> dict[str, Tensor]:
        """Return the inputs of the head besides the hidden state, such as ``row`` or a mask, with a batch dimension."""
        return {}

    @abstractmethod
    def units(self, inputs: Inputs, stream: Tensor) -> Units:
        """Return the units that the rows of a hidden state stand for."""

    @abstractmethod
    def group(self, item: _Item) -> Hashable:
        """Return the group of an item; items of one group may share a batch."""

    def length(self, item: _Item) -> int:
        """Return the length of an item in its group, whose items are padded to the longest of a batch."""
        return 0

    @abstractmethod
    def prepare(self, items: Sequence[_Item]) -> Inputs:
        """Prepare a batch of images or captions of one group."""

    @abstractmethod
    def empty_inputs(self) -> Inputs:
        """Return the inputs of one blank item: an image of the mean color, or a caption without words."""

    @abstractmethod
    def blank(self, inputs: Inputs, layer: int | None) -> Hidden:
        """Return the states at a layer (None: at the stem) for blank inputs of the same shape."""

    @abstractmethod
    def on_first_tokens(self, see: See) -> RemovableHandle:
        """Register a hook that calls ``see`` with the first tokens, and replaces them with its result unless None."""

    @property
    def called(self) -> str:
        """What messages call the tower."""
        return f"{self.modality} tower"

    def refusal(self, method: str) -> str:
        """Return why a method does not explain this tower, though the tower offers what it needs; empty if it does."""
        return ""

    def valid_tokens(self, inputs: Inputs, hidden: Hidden) -> Bool[Tensor, "batch token"]:
        """Return a mask that is true on the rows of each item, and false on its padding."""
        return torch.ones(hidden.shape[:2], dtype=torch.bool, device=hidden.device)

    reads_units = part("_rows_of_head", itemgetter(0))
    """Whether the head reads units, and not only special tokens such as a class token."""
    has_special_tokens = part("_rows_of_head", itemgetter(1))
    """Whether states have rows of no unit, such as that of a class token."""

    @cached_property
    def _rows_of_head(self) -> tuple[bool, bool]:
        """Whether the head reads units, and whether there are special tokens, by a blank input."""
        cut = self.trace(self.empty_inputs(), self.depth).cut(self.depth)
        with torch.enable_grad():
            states = cut.hidden[None].requires_grad_()
            embedding = cut.rest(states).float()

            # channels have different weights, since the plain sum of what a norm centers never changes
            weights = torch.linspace(1, 2, embedding.shape[-1], dtype=torch.float32, device=embedding.device)
            (gradient,) = torch.autograd.grad((embedding * weights).sum(), states)

        special = special_tokens(cut.units, cut.hidden.shape[1])[0]
        # of rows that the head does not read, the gradient is exactly 0
        return bool(cut.units.keep((gradient[0] != 0).any(-1).float()).any()), bool(special.any())

    def to_tokens(self, stream: Tensor) -> Hidden:
        """Convert a hidden state to rows of tokens."""
        return stream

    def to_stream(self, tokens: Hidden, like: Tensor) -> Tensor:
        """Convert rows of tokens to the hidden state that a block takes, of the shape of ``like``."""
        return tokens

    depth = part("blocks", len)
    """The number of blocks."""

    def relative(self, share: float) -> int:
        """Return the layer at a fraction of the depth."""
        return round(share * self.depth)

    def check_states(self, caller: str) -> None:
        """Check that hidden states are known, for what computes with them or with the weights."""
        if "states" not in self.offers:
            raise Unsupported(
                f"{caller} needs the layers and the weights of the model, and only two functions of it are known: load "
                "the model itself, or leave this out"
            )

    def check_layer(self, layer: int) -> None:
        """Check that the tower has a layer."""
        if not 0 <= layer <= self.depth:
            raise BadOption(f"layer must be between 0 and {self.depth} for this {self.modality} tower (got {layer})")

    def layers_of(self, value: object, leaves_block: bool = False, of_rows: bool = False) -> tuple[int, ...]:
        """Return the layers that a number, a list, their text or a share of the depth names.

        A method that scores rows by their own states (``of_rows``) may also take the last layers, whose states no other
        row reads.
        """
        last = self.depth - (0 if of_rows else self.unread_layers)
        if isinstance(value, str) and "." in value:
            value = parsed("layer", value, float)

        if isinstance(value, float) and 0 < value <= 1:
            if value == 1:
                raise BadOption(
                    "layer must not be 1.0, a layer or the whole depth: give 1, or the number of the last one"
                )
            return (min(self.relative(value) + leaves_block, last),)

        try:
            layers = parsed("layer", value.split(",") if isinstance(value, str) else value, Layers)
        except BadOption as error:
            if isinstance(value, list | tuple):
                raise
            raise BadOption(
                f"layer must be a whole number, or a share of the depth above 0 and below 1 (got {value!r:.60})"
            ) from error

        for layer in layers:
            self.check_layer(layer)
        if max(layers) > last:
            raise BadOption(f"layer must be at most {last}: after it, words read no other token (got {max(layers)})")
        if len(set(layers)) < len(layers):
            raise BadOption(f"layer must name each layer once (got {', '.join(map(str, layers))})")
        return layers

    lock = part("root", lambda root: _LOCKS.setdefault(root, threading.RLock()))
    """The lock of the model, which both towers share."""

    def computing(self) -> AbstractContextManager[Any]:
        """Return what holds the lock of the model, and computes in float32 if weights have fewer bits."""
        if self.example.dtype not in HALF and not self.quantized:
            return self.lock

        computing = ExitStack()
        computing.enter_context(self.lock)
        computing.enter_context(float32_arithmetic(self.example.dtype))
        if self.quantized:
            from nibt.models._dense_layers import dense_layers  # which only quantized models need

            computing.enter_context(dense_layers(self.quantized))
        return computing

    @property
    def dtype(self) -> torch.dtype:
        """The dtype in which the tower computes: that of its weights, but float32 for weights in half precision."""
        return computing_dtype(self.example.dtype)

    @cached_property
    def example(self) -> Tensor:
        """A weight with the device and the dtype of the weights.

        It is the first weight of a convolution or a linear map in the blocks, since norms, positions and embedding
        tables stay in float32 in OpenCLIP's mixed precision.
        """
        for module in (module for block in self.blocks for module in block.modules()):
            if isinstance(module, nn.Conv2d | nn.Linear) and not is_quantized(module):
                return module.weight
        return next(weight for weight in self.root.parameters() if type(weight) is nn.Parameter)

    @cached_property
    def quantized(self) -> dict[str, nn.Module]:
        """The layers with quantized weights, by their paths."""
        return {path: module for path, module in self.root.named_modules() if is_quantized(module)}

    first_weight = part("example")
    """The weight of the layer that takes the inputs, which may have another device and dtype than the blocks."""

    def encode(self, inputs: Inputs) -> Embedding:
        """Compute the embeddings of a batch without a graph."""
        with torch.no_grad(), self.computing():
            return self.after(self.run(self.in_layout(inputs)))

    def in_layout(self, inputs: Inputs) -> Inputs:
        """Return inputs in the layout in memory in which the tower runs fastest, with the same values."""
        return inputs

    def trace(self, inputs: Inputs, lowest: int = 0) -> "Trace":
        """Run the model once, and record the inputs of every block.

        Hidden states are kept from the layer ``lowest`` on, since the first ones of a convolutional trunk are large.
        """
        calls: list[tuple[tuple, dict]] = []
        streams: list[Tensor | None] = []

        def before(_: nn.Module, args: tuple, kwargs: dict) -> None:
            streams.append(args[0].detach() if len(streams) >= lowest else None)
            calls.append((args[1:], kwargs))

        def after(_: nn.Module, args: tuple, out: object) -> None:
            streams.append(first(out).detach())

        with self.computing(), ExitStack() as hooks, torch.no_grad():
            for block in self.blocks:
                hooks.enter_context(set_hook(block.register_forward_pre_hook, before, with_kwargs=True))
            hooks.enter_context(set_hook(self.blocks[-1].register_forward_hook, after))
            added = hooks.enter_context(self.additions()) if self.additions else []
            embedding = self.after(self.run(self.in_layout(inputs)))

        # what the model adds after later blocks stands beside the state, as further columns (``Trace``)
        for layer in range(lowest, len(added)):
            streams[layer] = torch.cat([streams[layer], *added[layer:]], -1)  # pyright: ignore
        return Trace(self, inputs, embedding, tuple(calls), tuple(streams), len(added))

    def stem(self, inputs: Inputs) -> Cut:
        """Cut the tower at its first tokens: patches with positions, the first feature map, or word embeddings.

        The first tokens of an image are its patches with positions, before the first norm; for a convolutional trunk,
        which adds no positions, they are the first feature map, its layer 0. The first tokens of a caption are its word
        embeddings before positions are added. The rest of the tower is the model's own forward pass, in which a hook
        replaces the first tokens.
        """
        streams: list[Tensor] = []
        with torch.no_grad(), self.computing(), self.on_first_tokens(streams.append):
            self.run(self.in_layout(inputs))
        (stream,) = streams

        def rest(states: States) -> AtNodes:
            # the model runs as a whole, so each state needs the inputs that stand beside it
            tiled = inputs.take(list(range(len(inputs))) * len(states)) if len(states) > 1 else inputs
            with self.computing(), self.on_first_tokens(lambda _: self.to_stream(states.flatten(0, 1), stream)):
                return self.after(self.run(self.in_layout(tiled))).unflatten(0, (len(states), -1))

        return Cut(self.to_tokens(stream.detach()), self.units(inputs, stream), rest)

    def _blank_state(
        self,
        key: Hashable,
        nothing: Callable[[], Inputs],
        layer: int | None,
        blanked: Callable[[], AbstractContextManager[None]] = nullcontext,
    ) -> Hidden:
        """Return the state of a blank input at a layer, which is computed once with those of all later layers.

        If a lower layer is asked for, too, all layers follow, since a score is distributed from one block to the next.
        ``blanked`` makes the input blank inside ``with``.
        """
        with self.lock:
            blanks = self.kept.setdefault("blanks", OrderedDict())
            states = blanks.setdefault(key, {})
            if layer not in states:
                with blanked():
                    if layer is None:
                        states[None] = self.stem(nothing()).hidden
                    else:
                        lowest = layer if states.keys() <= {None} else 0
                        trace = self.trace(nothing(), lowest)
                        states.update({later: trace.cut(later).hidden for later in range(lowest, self.depth + 1)})

            while len(blanks) > self.kept_blanks:
                blanks.popitem(last=False)
            return states[layer]


@dataclass(frozen=True)
class Trace:
    """One forward pass of a tower: its embedding, and the inputs of each block, so that it can be cut at any layer.

    Some decoders add features of the image to the hidden state after each of their first blocks (DeepStack). These
    bypass the layers before. The state at a layer therefore has the features that are still to be added beside it, as
    further columns, so that a path from a baseline narrows them, too.
    """

    tower: "Tower"
    inputs: Inputs
    embedding: Embedding
    calls: tuple[tuple[tuple, Keywords], ...]
    streams: tuple[Tensor | None, ...]
    additions: int = 0
    """After how many of the first blocks features are added."""
    shifted: dict[Hashable, "Trace"] | None = None
    """The traces of shifted images that are kept with this one; None keeps none."""

    @classmethod
    def of_embedding(cls, tower: "Tower", inputs: Inputs, embedding: Embedding) -> "Trace":
        """Return the trace of a tower that only the other side needs, of which nothing but its embedding is known."""
        return cls(tower, inputs, embedding, (), (None,) * (tower.depth + 1))

    @property
    def size(self) -> int:
        """The memory of the hidden states in bytes, with those of shifted images."""
        own = sum(stream.numel() * stream.element_size() for stream in self.streams if stream is not None)
        return own + sum(trace.size for trace in (self.shifted or {}).values())

    def cut(self, layer: int) -> Cut:
        """Cut the tower where a state enters block ``layer``; layer ``depth`` is the output of the last block."""
        tower = self.tower
        tower.check_layer(layer)
        stream = self.streams[layer]
        head_inputs = tower.head_inputs(self.inputs)
        assert stream is not None, f"traced above layer {layer}"

        def rest(states: States) -> AtNodes:
            count = len(states)
            blocks = tower.blocks
            running, pending = self.split(tower.to_stream(states.flatten(0, 1), stream), layer)

            # the item of each state, whose inputs of the blocks and of the head it needs
            index = torch.arange(len(self.inputs.values), device=stream.device).repeat(count)
            extra = {key: value[index.to(value.device)] for key, value in head_inputs.items()}

            embedding = None
            with tower.computing():
                for number in range(layer, len(blocks)):
                    call = self.calls[number]
                    args, kwargs = call if count == 1 else self._at(call, index)  # one block's, since masks are large
                    # of the last block, the row that the head reads is enough, unless hooks of the user act on all
                    if number == len(blocks) - 1 and not has_hooks(blocks[number]):
                        embedding = tower.last(running, extra, args, kwargs)
                    if embedding is None:
                        running = with_added(first(blocks[number](running, *args, **kwargs)), pending)
                embedding = tower.after(tower.head(running, extra) if embedding is None else embedding)

            return embedding.unflatten(0, (count, -1))

        return Cut(tower.to_tokens(stream), tower.units(self.inputs, stream), rest, tower.mapped)

    def block(self, number: int, rows: int) -> Cut:
        """Cut out one block: ``rest`` computes the first rows of its output, one after the other.

        A single row is the end row of towers that have one. Features that are added after the block are left out.
        """
        tower = self.tower
        end = self._end_row(rows)
        stream = self.streams[number]
        call = self.calls[number]
        assert stream is not None, f"traced above layer {number}"
        hidden = tower.to_tokens(stream)

        def rest(states: States) -> AtNodes:
            running = tower.to_stream(states.flatten(0, 1), stream)
            index = torch.arange(len(hidden), device=stream.device).repeat(len(states))
            args, kwargs = call if len(states) == 1 else self._at(call, index)
            with tower.computing():
                out = self._rows_alone(number, running, rows, None if end is None else end[index], args, kwargs)
                if out is None:
                    whole = tower.to_tokens(first(tower.blocks[number](running, *args, **kwargs)))
                    out = rows_at(whole, rows, end, index)

            return out.flatten(1).unflatten(0, (len(states), -1))

        return Cut(hidden, tower.units(self.inputs, stream), rest, tower.mapped)

    def on_lines(self, number: int, rows: int, start: Hidden) -> Track:
        """Return the lines of the states that enter a block from other states to its input."""
        stream = self.streams[number]
        assert stream is not None, f"traced above layer {number}"
        hidden = self.tower.to_tokens(stream)
        end = self._end_row(rows)
        places = torch.arange(rows, device=hidden.device).expand(len(hidden), -1) if end is None else end[:, None]
        return Track(start, hidden - start, places)

    def block_on_lines(self, number: int, states: OnTrack) -> Tensor | None:
        """Compute the rows of a block's output at states on lines: (position, batch, row x width).

        None if nibt cannot compute these rows alone, or the block does not read rows by linear maps of their norm.
        """
        tower = self.tower
        if tower.to_tokens(states.rows) is not states.rows:  # blocks take rows in another order or layout
            return None

        rows = states.rows.shape[1]
        count = len(states) // len(self.inputs)
        index = torch.arange(len(self.inputs), device=states.device).repeat(count)
        args, kwargs = self.calls[number] if count == 1 else self._at(self.calls[number], index)
        end = states.places[:, 0] if self._end_row(rows) is not None else None
        with tower.computing():
            out = self._rows_alone(number, states, rows, end, args, kwargs)
        return None if out is None else out.flatten(1).unflatten(0, (count, -1))

    def _end_row(self, rows: int) -> Int[Tensor, " batch"] | None:
        """Return the place of a single row that is the end row of a tower that has one; None for first rows."""
        return self.tower.end_row(self.inputs) if rows == 1 else None

    def _rows_alone(
        self,
        number: int,
        states: Tensor | OnTrack,
        rows: int,
        end: Int[Tensor, " state"] | None,
        args: tuple,
        kwargs: Keywords,
    ) -> Tensor | None:
        """Compute rows of a block's output without the others; None if the whole block must run."""
        if has_hooks(self.tower.blocks[number]):
            return None
        if end is None:
            return self.tower.first_rows(number, states, rows, args, kwargs)
        return self.tower.one_row(number, states, end, args, kwargs)

    def split(self, stream: Tensor, layer: int) -> tuple[Tensor, list[Tensor]]:
        """Return the hidden state of a layer, and the features beside it that are added after the next blocks."""
        running, *pending = stream.chunk(1 + max(0, self.additions - layer), -1)
        return running, pending

    def take(self, rows: Sequence[int]) -> "Trace":
        """Return the trace of the items at ``rows``, which may repeat: one forward pass serves many captions."""
        tower = self.tower
        index = torch.tensor(rows, device=self.embedding.device)
        return replace(
            self,
            inputs=self.inputs.take(rows),
            embedding=self.embedding[index],
            shifted=None,  # traces of shifted images have the items of this trace
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
        count = len(self.inputs.values)
        shared = self.tower.shared
        for place, leaf in enumerate(leaves):
            if isinstance(leaf, Tensor) and leaf.ndim >= 3 and len(leaf) % count == 0:
                leaves[place] = leaf.unflatten(0, (count, -1)).index_select(0, index.to(leaf.device)).flatten(0, 1)

        # the first dimension of shared tensors, such as positions, may look like the batch
        args, kwargs = tree_unflatten(leaves, structure)
        return args, {key: call[1][key] if key in shared else value for key, value in kwargs.items()}
