"""The parts of a vision-language model: the decoder that both sides share, and the head that embeds its states."""

from abc import ABC, abstractmethod
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from nibt.errors import Unsupported
from nibt.models._hooks import set_hook
from nibt.options import Keywords
from nibt.types import Embedding, Hidden


@dataclass(frozen=True)
class Network(ABC):
    """A model whose language model embeds prompts with an image or a text."""

    offers: ClassVar[frozenset[str]] = frozenset({"attention", "stem"})
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

    @property
    def layers(self) -> list[nn.Module]:
        """The layers of the language model."""
        return list(self.decoder.layers)

    @property
    def norm(self) -> nn.Module:
        """The norm after the last layer."""
        return self.decoder.final_norm if hasattr(self.decoder, "final_norm") else self.decoder.norm

    @property
    def context(self) -> int:
        """The largest number of tokens of a prompt."""
        return self.decoder.config.max_position_embeddings

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
            features, places = kwargs.get("deepstack_visual_embeds"), kwargs.get("visual_pos_masks")
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

    offers = frozenset({"attention", "stem", "vectors"})

    def run(self, arguments: dict[str, Tensor]) -> Embedding:
        """Run the model's own forward pass, whose vectors of padding are zeros."""
        return apart(self.root, self.base)(**arguments, **self.options).embeddings

    def embed(self, states: Hidden, mask: Tensor) -> Embedding:
        """Project each state to a vector of unit length."""
        vectors = self.root.embedding_proj_layer(states)
        return F.normalize(vectors, dim=-1, eps=0.0) * mask[..., None].to(vectors)


def decoder_of(base: Any) -> Any:
    """Return the language model of a vision-language model."""
    for name in ("language_model", "text_model"):
        decoder = getattr(base, name, None)
        if hasattr(decoder, "layers"):
            return decoder
    raise Unsupported(f"the language model of {type(base).__name__} is not supported: it must have a list of layers")


def image_token_id(module: Any) -> int:
    """Return the id of the tokens that stand for parts of an image; -1 if there are none."""
    return getattr(getattr(module.config, "vlm_config", module.config), "image_token_id", -1)
