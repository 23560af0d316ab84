"""The two towers of a vision-language model: one language model that reads a prompt with an image, or with a text."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from operator import methodcaller
from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from nibt.data.images import ImageInput
from nibt.data.units import Units
from nibt.errors import BadInput, Unsupported, first_line
from nibt.models._inputs import Cut, Inputs
from nibt.models._text_tower import TextTower
from nibt.models._tower import Tower, first, first_of, part
from nibt.models._vision_language.pixels import Layout
from nibt.models._vision_language.prompts import tokens
from nibt.models.base import ImageTower
from nibt.options import Keywords
from nibt.preprocessing.captions import Tokens
from nibt.preprocessing.images import Processor
from nibt.torch_modes import float32_numbers, set_hook
from nibt.types import Embedding, Hidden


@dataclass(frozen=True)
class Network(ABC):
    """A model whose language model embeds prompts with an image or a text."""

    offers: ClassVar[frozenset[str]] = frozenset({"states", "attention", "stem"})
    """What its towers offer to methods."""

    root: Any
    base: Any  # the model whose output is the last hidden state
    decoder: Any  # its language model

    @abstractmethod
    def run(self, arguments: dict[str, Tensor]) -> Embedding:
        """Run the model's own forward pass on prompts."""

    @abstractmethod
    def embed(self, states: Hidden, mask: Tensor) -> Embedding:
        """Compute embeddings from the last hidden states, and the mask that is 0 on padding."""

    def head(self, stream: Hidden, mask: Tensor) -> Embedding:
        """Compute embeddings from the output of the last layer."""
        return self.embed(self.norm(stream), mask)

    layers = part("decoder.layers", list)
    """The layers of the language model."""
    context = part("decoder.config.max_position_embeddings")
    """The largest number of tokens of a prompt."""
    norm = part("decoder", first_of("final_norm", "embedding_norm", "norm"))
    """The norm after the last layer."""

    def states(self, arguments: dict[str, Tensor]) -> Hidden:
        """Run the language model, and return its last hidden states."""
        return apart(self.base)(**arguments, **self.options).last_hidden_state

    @property
    def options(self) -> dict[str, bool]:
        """Options of every forward pass: no cache of keys and values, which only generating needs."""
        return {"use_cache": False} if hasattr(self.decoder.config, "use_cache") else {}

    @contextmanager
    def additions(self) -> Iterator[list[Tensor]]:
        """Record the features that DeepStack adds after each of the first layers, as (batch, token, width)."""
        added: list[Tensor] = []

        def before(_: nn.Module, args: tuple, kwargs: Keywords) -> None:
            features = kwargs.get("deepstack_visual_embeds")
            places = kwargs.get("visual_pos_masks")
            if features is not None and places is not None:
                added.extend(_spread(feature.detach(), places) for feature in features)

        with set_hook(self.decoder.register_forward_pre_hook, before, with_kwargs=True):
            yield added


def apart(module: Any, inner: Any = None) -> Any:
    """Return a module with all that another has, whose own attributes the other does not get; also of an inner part.

    Qwen-VL keeps an offset of positions from its last prompt, which a user's generation needs, also in another thread.
    """
    copy = object.__new__(type(module))
    copy.__dict__.update(vars(module))
    if inner is not None and inner is not module:
        children = module._modules.items()
        copy._modules = {name: apart(child) if child is inner else child for name, child in children}

    return copy


class _StatesAlone:
    """An output of a model that has its last hidden states, by their name and as the first entry, and nothing else."""

    def __init__(self, states: Tensor) -> None:
        self.last_hidden_state = states

    def __getattr__(self, name: str) -> None:
        return None

    def __getitem__(self, place: int) -> Tensor:
        return (self.last_hidden_state,)[place]


class _FixedStates(nn.Module):
    """A model without its head that returns given states, whatever it is given."""

    def __init__(self, states: Tensor) -> None:
        super().__init__()
        self.output = _StatesAlone(states)

    def forward(self, *_: object, **__: object) -> _StatesAlone:
        return self.output


def with_child(module: Any, name: str, child: nn.Module) -> Any:
    """Return a module with all that another has, but for its direct part of a name, which is ``child``."""
    copy = apart(module)
    copy._modules = {**module._modules, name: child}

    # accelerate and torch.compile give a model a forward that is bound to the model itself, not to its copy
    for bound in ("forward", "_compiled_call_impl"):
        copy.__dict__.pop(bound, None)

    return copy


def own_head(root: nn.Module, base: nn.Module, states: Float[Tensor, "*batch width"]) -> Float[Tensor, "*batch count"]:
    """Return the logits that a model itself computes from the last states of its part ``base``."""
    name = next(name for name, child in root.named_children() if child is base)
    copy = with_child(root, name, _FixedStates(states.reshape(1, -1, states.shape[-1])))
    logits = copy(input_ids=torch.zeros(1, 1, dtype=torch.long, device=states.device)).logits
    return logits[0].reshape(*states.shape[:-1], -1)


def _spread(features: Tensor, places: Tensor) -> Tensor:
    """Return features of the tokens of images as rows of all tokens, with zeros for the others."""
    rows = features.new_zeros(*places.shape, features.shape[-1])
    rows[places] = features
    return rows


@dataclass(frozen=True)
class PooledNetwork(Network):
    """A model that embeds a prompt by the last hidden state of its last token, or by the mean over all tokens."""

    pooling: str
    positions: str | None = None
    """``sequential`` numbers all tokens in order; None leaves positions to the model, which may use the grid."""

    def run(self, arguments: dict[str, Tensor]) -> Embedding:
        ids = arguments["input_ids"]
        if self.positions == "sequential":
            arguments = {**arguments, "position_ids": torch.arange(ids.shape[1], device=ids.device).expand_as(ids)}
        return self.embed(self.states(arguments), arguments["attention_mask"])

    def embed(self, states: Hidden, mask: Tensor) -> Embedding:
        if self.pooling == "mean":
            weights = mask[..., None].to(states)
            return (states * weights).sum(1) / weights.sum(1)
        last = mask.shape[1] - 1 - mask.flip(1).argmax(1)
        return states[torch.arange(len(states), device=states.device), last]


@dataclass(frozen=True)
class LateNetwork(Network):
    """A model that embeds each token of a prompt."""

    offers = frozenset({"states", "attention", "stem", "vectors"})

    def run(self, arguments: dict[str, Tensor]) -> Embedding:
        """Run the model's own forward pass, whose vectors of padding are zeros."""
        output = apart(self.root, self.base)(**arguments, **self.options)
        return getattr(output, "embeddings", output)  # of colpali-engine, the vectors alone

    projection = part("root", first_of("embedding_proj_layer", "custom_text_proj", "linear"))
    """The linear layer after the language model, of which Transformers and colpali-engine have three names."""

    def embed(self, states: Hidden, mask: Tensor) -> Embedding:
        """Project each state to a vector of unit length."""
        vectors = self.projection(states)
        return F.normalize(vectors, dim=-1, eps=0.0) * mask[..., None].to(vectors)


def decoder_of(base: nn.Module) -> Any:
    """Return the language model of a vision-language model."""
    for name in ("language_model", "text_model"):
        decoder = getattr(base, name, None)
        if hasattr(decoder, "layers"):
            return decoder
    raise Unsupported(f"the language model of {type(base).__name__} is not supported: it must have a list of layers")


def image_token_id(module: nn.Module) -> int:
    """Return the id of the tokens that stand for parts of an image; -1 if there are none."""
    config: Any = module.config
    return getattr(getattr(config, "vlm_config", config), "image_token_id", -1)


Encode = Callable[[ImageInput], Mapping[str, Tensor]]
"""Prepares an image in its prompt with the model's processor."""
_PROMPT = (
    "input_ids",
    "attention_mask",
    "mm_token_type_ids",
    "token_type_ids",
    "image_embeds_position_mask",
    "cross_attention_mask",
)


def _skip(_: nn.Module, args: tuple, kwargs: Keywords, out: Any) -> Any:
    """Return the input of a block in place of its output; other modules, whose shape differs, are not skipped."""
    state = first(out)
    block_input = next((value for value in (*args, *kwargs.values()) if isinstance(value, Tensor)), None)
    if block_input is None or not isinstance(state, Tensor) or block_input.shape != state.shape:
        return None
    return (block_input, *out[1:]) if isinstance(out, tuple) else block_input


@contextmanager
def without_blocks(root: nn.Module, decoder: nn.Module) -> Iterator[None]:
    """Skip the blocks of a model inside ``with``, but those of its decoder: parts in lists that keep the shape."""
    kept = set(decoder.modules())
    lists = [part for part in root.modules() if isinstance(part, nn.ModuleList | nn.Sequential)]
    with ExitStack() as hooks:
        for module in (child for part in lists if part not in kept for child in part):
            # before the hooks with which Transformers records hidden states
            register = partial(module.register_forward_hook, prepend=True)
            hooks.enter_context(set_hook(register, _skip, with_kwargs=True))
        yield


@contextmanager
def preparing(image: ImageInput, frames: int = 0) -> Iterator[None]:
    """Convert what a processor raises for an image that it cannot prepare, such as one with an aspect ratio of 200."""
    try:
        with float32_numbers():
            yield
    except (ValueError, ZeroDivisionError, RuntimeError) as error:
        if isinstance(error, torch.OutOfMemoryError):
            raise
        width, height = image.size
        named = f"image {image.source!r} of {width} x {height} pixels"
        advice = "crop it"
        if frames:
            named = f"video of {frames} frames of {width} x {height} pixels"
            advice = "give more or larger frames"
        elif image.parts:
            named = f"images {image.source!r:.300} together"
            advice = "give images of one size, or explain each alone"
        raise BadInput(
            f"the model's processor cannot prepare the {named} ({first_line(error)}): {advice}, or use another model"
        ) from error


class _DecoderTower(Tower):
    """What both sides share: the layers of the language model, and the head."""

    distributes = False
    shared = frozenset({"rope"})  # positions of tokens have a batch dimension here
    network: Network

    blocks = part("network.layers")
    embedder = part("network.base", methodcaller("get_input_embeddings"))

    @property
    def offers(self) -> frozenset[str]:  # pyright: ignore
        return self.network.offers

    def head_inputs(self, inputs: Inputs) -> dict[str, Tensor]:
        return {"mask": inputs.extra["attention_mask"]}

    def head(self, stream: Hidden, extra: dict[str, Tensor]) -> Embedding:
        return self.network.head(stream, extra["mask"])


class DecoderPixels(_DecoderTower, ImageTower):
    """What the towers share that read an image."""

    layout: Layout

    blank_value = part("layout.blank")
    additions = part("network.additions")
    extent = part("layout.extent")

    @property
    def shiftable(self) -> bool:  # pyright: ignore
        return self.layout.shiftable and self.images == 1

    @contextmanager
    def unmixed(self) -> Iterator[None]:
        """Skip the blocks of the vision encoder inside ``with``."""
        with without_blocks(self.root, self.network.decoder):
            yield

    def stem(self, inputs: Inputs) -> Cut:
        return self.trace(inputs).cut(0)  # the features of the image in its prompt, with those that are added later

    def units(self, inputs: Inputs, stream: Tensor) -> Units:
        return self.layout.grid(inputs, self.places(inputs))

    def places(self, inputs: Inputs) -> tuple[int, ...]:
        """Return the rows of the image, which those of an overview and ends of rows belong to."""
        return tuple((inputs.extra["input_ids"][0] == image_token_id(self.root)).nonzero()[:, 0].tolist())

    def pixel_weights(self, inputs: Inputs, keep: Float[Tensor, "batch height width"]) -> Tensor:
        return self.layout.weights(inputs, keep).to(inputs.values)

    def arguments(self, inputs: Inputs) -> dict[str, Tensor]:
        """Return the arguments of the model: the prompt and the pixels."""
        prompt = {name: inputs.extra[name] for name in _PROMPT if name in inputs.extra}
        return {**prompt, **self.layout.arguments(inputs)}


class DecoderImageTower(DecoderPixels):
    """The image side: a prompt with an image.

    Its units are the cells of the grid whose features the language model reads. All other tokens of the prompt, such
    as an instruction, are special tokens.
    """

    def __init__(self, network: Network, layout: Layout, encode_image: Encode) -> None:
        super().__init__()
        self.root = network.root
        self.network = network
        self.layout = layout
        self.encode_image = encode_image

    def _encoded(self, item: ImageInput) -> Mapping[str, Tensor]:
        with preparing(item):
            return self.encode_image(item)

    def group(self, item: ImageInput) -> Hashable:
        encoded = self._encoded(item)
        sizes = (encoded[name] for name in ("image_grid_thw", "tiles") if name in encoded)
        return encoded["input_ids"].shape[1], *(tuple(size.flatten().tolist()) for size in sizes)

    def prepare(self, items: Sequence[ImageInput]) -> Inputs:
        values = []
        extras = []
        for item in items:
            encoded = self._encoded(item)
            pixels, extra = self.layout.values(encoded)
            values.append(pixels)
            extras.append({**extra, **{name: encoded[name][0] for name in _PROMPT if name in encoded}})

        pixels = torch.stack(values).to(self.example.device, self.dtype)
        return Inputs(
            pixels,
            {name: torch.stack([extra[name] for extra in extras]).to(pixels.device) for name in extras[0]},
            regions=tuple(self.layout.region(item) for item in items),
            notes=tuple(self.layout.notes(item) for item in items),
        )

    def run(self, inputs: Inputs) -> Embedding:
        return self.network.run(self.arguments(inputs))


class DecoderTextTower(_DecoderTower, TextTower):
    """The text side: a prompt with a text, whose words are its units."""

    full = False

    def __init__(self, network: Network, processor: Processor, prompt: str) -> None:
        super().__init__()
        self.root = network.root
        self.network = network
        self.tokenizer = processor.tokenizer
        self.prompt = prompt
        # types are 0 for prompts; without them, PaliGemma would mask a padded batch in another way than a single text
        self.typed = "token_type_ids" in processor.model_input_names

    def tokens(self, caption: str) -> Tokens:
        return tokens(self.tokenizer, self.prompt, caption, self.network.context)

    def extra(self, tokens: Sequence[Tokens], ids: Tensor) -> dict[str, Tensor]:
        extra = super().extra(tokens, ids)
        return {**extra, "token_type_ids": torch.zeros_like(ids)} if self.typed else extra

    def run(self, inputs: Inputs) -> Embedding:
        return self.network.run({"input_ids": inputs.values, **inputs.extra})
