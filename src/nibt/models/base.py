"""The contract of a model: two towers, each a stem, a row of blocks and a head.

A family supplies a few facts about a tower (its blocks, its head, what the head reads). All else is written here
once. No forward pass is copied: the model runs its own, we record what every block was given, and replay only
the tail. The model is never changed: hooks stand only inside ``with``, under one lock for each model object.
"""

import hashlib
import threading
from abc import ABC, abstractmethod
from collections import OrderedDict
from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from itertools import chain
from pathlib import Path
from typing import Any, ClassVar
from weakref import WeakKeyDictionary

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle
from typing_extensions import override

from nibt.data.images import ImageInput
from nibt.data.pair import caption_notes
from nibt.data.units import Units
from nibt.errors import BadOption
from nibt.models._configuration import configuration_hash
from nibt.models._request import Request
from nibt.models._stamp import weights_stamp
from nibt.models._stem import See, cut_stem
from nibt.models._trace import Cut, Inputs, Trace, first
from nibt.preprocessing.captions import Tokens
from nibt.preprocessing.captions import batch as batch_tokens
from nibt.preprocessing.images import Preparation
from nibt.types import Embedding, Hidden, Modality, PerToken

_LOCKS: "WeakKeyDictionary[nn.Module, threading.RLock]" = WeakKeyDictionary()
_MOST_BLANKS = 64  # states of different sizes or caption lengths that a tower keeps


class Tower(ABC):
    """One encoder of a model.

    Layer ``k`` is the stream that *enters* block ``k``: 0 follows the stem, ``depth`` precedes the head.
    """

    modality: ClassVar[Modality]
    positional: ClassVar[bool] = True
    """Whether a state means its place; where not (a convolutional trunk), a mean state serves any grid."""
    shared: ClassVar[frozenset[str]] = frozenset({"rope", "position_embeddings"})
    """Keyword arguments of the blocks that all items of a batch share."""
    offers: ClassVar[frozenset[str]] = frozenset({"attention", "stem"})
    """What methods may need, and this tower has."""
    mapped: ClassVar[bool] = True
    """Whether torch can map the tower's functions (``torch.func.vmap``); it has no rule for some kinds of pooling."""
    root: nn.Module

    def __init__(self) -> None:
        self._blanks: OrderedDict[Hashable, dict[int | None, Hidden]] = OrderedDict()

    @property
    @abstractmethod
    def blocks(self) -> list[nn.Module]:
        """The blocks, in order. Each takes the stream first and gives the stream back."""

    @abstractmethod
    def run(self, inputs: Inputs) -> Embedding:
        """The model's own forward pass, up to the joint embedding."""

    @abstractmethod
    def head(self, stream: Tensor, read: dict[str, Tensor]) -> Embedding:
        """From what leaves the last block, and what else the head reads, to the joint embedding."""

    def last(self, stream: Tensor, read: dict[str, Tensor], args: tuple, kwargs: dict[str, Any]) -> Embedding | None:
        """Optional, since it pays: from the stream that enters the last block to the embedding, where the head reads
        one row, with that row alone going through. ``args`` and ``kwargs`` are what the block is given beside the
        stream. None: the whole block must run.
        """
        return None

    def read(self, inputs: Inputs) -> dict[str, Tensor]:
        """What the head reads of the inputs beside the stream: ``row``, a mask ... ; each with a batch dimension."""
        return {}

    @abstractmethod
    def units(self, inputs: Inputs, stream: Tensor) -> Units:
        """What the rows of a stream stand for."""

    @abstractmethod
    def group(self, item: Any) -> Hashable:
        """Items of one group may share a batch."""

    def length(self, item: Any) -> int:
        """How long an item is among those of its group, which are padded to the longest of a batch."""
        return 0

    @abstractmethod
    def prepare(self, items: Sequence[Any]) -> Inputs:
        """One batch of images, or of captions, of one group."""

    @abstractmethod
    def blank(self, inputs: Inputs, layer: int | None) -> Hidden:
        """The tower's own states at a layer (None: at the stem) for inputs of the same shape that say nothing."""

    @abstractmethod
    def on_first_tokens(self, see: See) -> RemovableHandle:
        """A hook that shows ``see`` the tower's first tokens, and puts its answer, if it has one, in their place."""

    def valid_tokens(self, inputs: Inputs, hidden: Hidden) -> Bool[Tensor, "batch token"]:
        """The rows of each item itself; false for those that fill it up to its batch mates."""
        return torch.ones(hidden.shape[:2], dtype=torch.bool, device=hidden.device)

    def to_tokens(self, stream: Tensor) -> Hidden:
        """A stream as rows of tokens."""
        return stream

    def to_stream(self, tokens: Hidden, like: Tensor) -> Tensor:
        """Rows of tokens as the stream that a block takes; ``like`` has its shape."""
        return tokens

    @property
    def depth(self) -> int:
        return len(self.blocks)

    def relative(self, share: float) -> int:
        """The layer at that share of the depth."""
        return round(share * self.depth)

    def check_layer(self, layer: int) -> None:
        if not 0 <= layer <= self.depth:
            raise BadOption(f"layer must lie in 0..{self.depth} for this {self.modality} tower (got {layer})")

    @property
    def lock(self) -> threading.RLock:
        return _LOCKS.setdefault(self.root, threading.RLock())

    @property
    def example(self) -> Tensor:
        """A weight, for the device and the dtype that the tower works in: the first of a convolution or a linear map of
        its blocks, since norms, places and tables of embeddings stay in float32 in OpenCLIP's mixed precision.
        """
        for module in chain.from_iterable(block.modules() for block in self.blocks):
            if isinstance(module, nn.Conv2d | nn.Linear) and module.weight.is_floating_point():
                return module.weight
        return next(self.root.parameters())

    def encode(self, inputs: Inputs) -> Embedding:
        with torch.no_grad(), self.lock:
            return self.run(inputs)

    def trace(self, inputs: Inputs, lowest: int = 0) -> Trace:
        """Run the model once, and remember what every block was given; of streams only those from the layer
        ``lowest`` up, since the first ones of a convolutional trunk are large.
        """
        calls: list[tuple[tuple, dict]] = []
        streams: list[Tensor | None] = []

        def before(_: nn.Module, args: tuple, kwargs: dict) -> None:
            streams.append(args[0].detach() if len(streams) >= lowest else None)
            calls.append((args[1:], kwargs))

        def after(_: nn.Module, args: tuple, out: Any) -> None:
            streams.append(first(out).detach())

        with self.lock, ExitStack() as hooks, torch.no_grad():
            for block in self.blocks:
                hooks.callback(block.register_forward_pre_hook(before, with_kwargs=True).remove)
            hooks.callback(self.blocks[-1].register_forward_hook(after).remove)
            embedding = self.run(inputs)
        return Trace(self, inputs, embedding, tuple(calls), tuple(streams))

    def stem(self, inputs: Inputs) -> Cut:
        """Cut the tower at its first tokens: patches with their places before the first norm (a convolutional
        trunk's first feature map), or word embeddings before they get their places.
        """
        return cut_stem(self, inputs)

    def _blank_state(self, key: Hashable, nothing: Inputs, layer: int | None) -> Hidden:
        """What an input that says nothing is at a layer, from memory if the weights are those that made it.

        What leaves the last block comes with it, since what the path ends in is asked for, too.
        """
        made_by = torch.get_num_threads()  # by which sums are rounded: the same call gives the same bits
        known = (key, weights_stamp(self.root), self.example.dtype, self.example.device, made_by)
        with self.lock:
            states = self._blanks.setdefault(known, {})
            if layer not in states and layer is None:
                states[None] = self.stem(nothing).hidden
            elif layer not in states:
                trace = self.trace(nothing, layer or 0)
                states.update({kept: trace.cut(kept).hidden for kept in (layer or 0, self.depth)})
            while len(self._blanks) > _MOST_BLANKS:
                self._blanks.popitem(last=False)
            return states[layer]


class ImageTower(Tower):
    """A tower for images; the blank image is one of the mean colour, zero after normalising."""

    modality = "image"
    preparation: Preparation

    @override
    def group(self, item: ImageInput) -> Hashable:
        return self.preparation.resize.size(item.size)

    @override
    def prepare(self, items: Sequence[ImageInput]) -> Inputs:
        pixels = torch.stack([self.preparation.pixels(item) for item in items])
        return Inputs(
            pixels.to(self.example.device, self.example.dtype),
            regions=tuple(self.preparation.region(item) for item in items),
            notes=tuple(self.preparation.notes(item) for item in items),
        )

    @property
    def entry(self) -> nn.Module:
        """The module that takes the first tokens: the norm before the blocks, where there is one."""
        return self.blocks[0]

    @override
    def on_first_tokens(self, see: See) -> RemovableHandle:
        def before(_: nn.Module, args: tuple) -> tuple | None:
            put = see(args[0])
            return None if put is None else (put, *args[1:])

        return self.entry.register_forward_pre_hook(before)

    def extent(self, inputs: Inputs) -> tuple[int, int]:
        """Height and width of what the tower sees, in pixels."""
        height, width = inputs.values.shape[-2:]
        return height, width

    def mask_pixels(self, inputs: Inputs, keep: Float[Tensor, "batch height width"]) -> Inputs:
        """Each pixel scaled after normalising: 1 keeps it, 0 makes it the mean colour."""
        return replace(inputs, values=inputs.values * keep[:, None].to(inputs.values))

    @override
    def blank(self, inputs: Inputs, layer: int | None) -> Hidden:
        first = inputs.item(0)
        key = (first.values.shape, *((k, *v.flatten().tolist()) for k, v in first.extra.items()))
        state = self._blank_state(key, replace(first, values=torch.zeros_like(first.values)), layer)
        return state.expand(len(inputs), -1, -1)


class TextTower(Tower):
    """A tower for captions; in the blank caption every word's embedding is the padding token's."""

    modality = "text"

    @property
    @abstractmethod
    def embedder(self) -> nn.Module:
        """The table of word embeddings: its output is what the words are before they get their places."""

    @property
    @abstractmethod
    def pad(self) -> tuple[int, str]:
        """The id and the text of the padding token."""

    @abstractmethod
    def tokens(self, caption: str) -> Tokens:
        """One caption through the model's own tokeniser."""

    def extra(self, tokens: Sequence[Tokens], ids: Tensor) -> dict[str, Tensor]:
        """What the forward pass takes beside the ids."""
        return {}

    @override
    def group(self, item: str) -> Hashable:
        return None

    @override
    def length(self, item: str) -> int:
        return len(self.tokens(item).ids)

    @override
    def prepare(self, items: Sequence[str]) -> Inputs:
        tokens = [self.tokens(item) for item in items]
        ids, words = batch_tokens(items, tokens, self.pad)
        device = self.example.device
        extra = {key: value.to(device) for key, value in self.extra(tokens, ids).items()}
        notes = tuple((*caption_notes(item), *row.notes) for item, row in zip(items, tokens, strict=True))
        return Inputs(ids.to(device), extra, words=words, notes=notes)

    @override
    def units(self, inputs: Inputs, stream: Tensor) -> Units:
        assert inputs.words is not None
        return inputs.words

    @override
    def on_first_tokens(self, see: See) -> RemovableHandle:
        def after(_: nn.Module, args: tuple, out: Tensor) -> Tensor | None:
            return see(out)

        return self.embedder.register_forward_hook(after)

    @contextmanager
    def blend_to_padding(self, keep: PerToken) -> Iterator[None]:
        """Inside, each row's word embedding is moved toward the padding token's: 1 keeps all of it, 0 nothing."""

        def fade(module: nn.Module, args: tuple, out: Tensor) -> Tensor:
            nothing = module.forward(keep.new_tensor(self.pad[0], dtype=torch.long))  # as scaled or adapted as a word
            return nothing + keep[..., None].to(out) * (out - nothing)

        with self.embedding(fade):
            yield

    @contextmanager
    def embedding(self, change: Callable[[nn.Module, tuple, Tensor], Tensor]) -> Iterator[None]:
        """Inside, the word embeddings are changed before they get their places, as a forward hook changes them."""
        with self.lock:
            handle = self.embedder.register_forward_hook(change)
            try:
                yield
            finally:
                handle.remove()

    @override
    def blank(self, inputs: Inputs, layer: int | None) -> Hidden:
        assert inputs.words is not None
        word = inputs.words.explained.to(inputs.values.device)
        keys = [tuple(row) for row in inputs.values.masked_fill(word, -1).tolist()]  # special tokens and their places
        states = {}
        for index, key in enumerate(keys):
            if key not in states:
                with self.blend_to_padding((~word[index : index + 1]).float()):
                    states[key] = self._blank_state(key, inputs.item(index), layer)
        return torch.cat([states[key] for key in keys])


@dataclass(frozen=True, eq=False, repr=False)
class Model:
    """Two towers that meet in one embedding space."""

    id: str
    family: str
    module: nn.Module
    image: ImageTower
    text: TextTower
    scale: float
    bias: float = 0.0
    defaults: Mapping[str, Any] = field(default_factory=dict)
    """What this model's maker recommends, by option: ``image_layer`` and the like."""
    folder: Path | None = None
    request: Request = field(default_factory=Request)
    _hashes: dict[str, str] = field(default_factory=dict, repr=False)

    def tower(self, modality: Modality) -> Tower:
        return self.image if modality == "image" else self.text

    @property
    def weights_hash(self) -> str:
        """16 hexadecimal digits that tell these weights, in this dtype, from any others."""
        stamp = weights_stamp(self.module)
        if self._hashes.get("stamp") != stamp:
            self._hashes.update(stamp=stamp, hash=self._hash())
        return self._hashes["hash"]

    @property
    def configuration_hash(self) -> str:
        """16 hexadecimal digits that tell the configuration of the network, its image processor and its tokenizer."""
        if "configuration" not in self._hashes:
            processor = getattr(self.request.processor, "image_processor", self.request.processor)
            tokenizer = self.request.tokenizer or getattr(self.request.processor, "tokenizer", None)
            self._hashes["configuration"] = configuration_hash(self.module, processor, tokenizer)
        return self._hashes["configuration"]

    def _hash(self) -> str:
        digest = hashlib.sha256()
        for name, tensor in sorted(self.module.state_dict().items()):
            digest.update(name.encode())
            digest.update(tensor.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().tobytes())
        return digest.hexdigest()[:16]

    @property
    def dtype(self) -> str:
        return str(self.image.example.dtype).removeprefix("torch.")

    @property
    def device(self) -> str:
        return str(self.image.example.device)

    def __repr__(self) -> str:
        return "\n".join(
            [
                f"Model {self.id} ({self.family}), {self.dtype} on {self.device}, weights {self.weights_hash}",
                f"  image  {type(self.image).__name__} of {self.image.depth} blocks",
                f"  text   {type(self.text).__name__} of {self.text.depth} blocks",
            ]
        )

    def facts(self) -> dict[str, Any]:
        """The record without the folder that a local model lies in, for files that others may read."""
        return self.record() | {"id": Path(self.id).name if Path(self.id).is_dir() else self.id}

    def record(self) -> dict[str, Any]:
        """What tells this model from others, as plain data: its name, weights, and how it takes images."""
        return {
            "id": self.id,
            "family": self.family,
            "weights_hash": self.weights_hash,
            "configuration_hash": self.configuration_hash,
            "dtype": self.dtype,
            "device": self.device,
            "resize": self.request.resize or "model",
            "image_size": self.request.image_size,
            **self.request.facts,
        }
