"""The tower of a generator whose decoder can only be cut where the image and the words enter it (Gemma 3n, Gemma 4)."""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from nibt.generators.decoder_answers import AnswerNetwork, DecoderAnswerTower
from nibt.models._inputs import Inputs, See
from nibt.models._request import LoadRequest
from nibt.models._tower import Trace
from nibt.models._vision_language.tiles import layout_of
from nibt.models._vision_language.towers import decoder_of
from nibt.options import Keywords
from nibt.torch_modes import set_hook
from nibt.types import Hidden, PerToken

BYPASSING = ("hidden_size_per_layer_input", "num_kv_shared_layers")
"""The settings of decoders whose layers read inputs, or keys and values, that bypass the layers before them."""
_OF_LAYERS = "per_layer_inputs"


class _WholeDecoder(nn.Module):
    """A decoder as one block: from the embeddings of all tokens to the states before its last norm.

    The inputs of its layers that come from the ids are further columns of the state, after those of the embeddings.
    """

    def __init__(self, decoder: Any) -> None:
        super().__init__()
        self.decoder = decoder
        self.width = decoder.config.hidden_size

    def forward(self, states: Float[Tensor, "batch token column"], **others: Any) -> Float[Tensor, "batch token width"]:
        embeddings = states[..., : self.width]
        of_layers = states[..., self.width :]
        if of_layers.shape[-1]:
            shape = *states.shape[:2], self.decoder.config.num_hidden_layers, -1
            others[_OF_LAYERS] = of_layers.reshape(shape)

        for name, value in others.items():
            # masks and positions by token are those of one sequence, which all items share
            if isinstance(value, Tensor) and value.ndim == 2:
                others[name] = value[:1].expand(len(states), -1)

        last: list[Tensor] = []
        with set_hook(self.decoder.norm.register_forward_pre_hook, lambda _, args: last.append(args[0])):
            self.decoder(inputs_embeds=embeddings, **others)
        return last[0]


@dataclass(frozen=True)
class WholeNetwork(AnswerNetwork):
    """A model whose decoder is one block."""

    offers = frozenset({"states", "stem", "answer"})

    @cached_property
    def layers(self) -> list[nn.Module]:  # pyright: ignore
        """The decoder."""
        return [_WholeDecoder(self.decoder)]


class WholeDecoderTower(DecoderAnswerTower):
    """The sequence of a decoder that is cut where it begins: layer 0 is its input, and layer 1 are its last states.

    Each layer of Gemma 3n and of a small Gemma 4 reads inputs of its own. One part of them is computed from the input
    of the decoder, and is computed anew from a changed one. Another part comes from the ids of the words, and is beside
    the input of the decoder in the states of layer 0, so that a removed word lacks both. At the tokens of an image, it
    is that of padding, whatever the image shows.
    """

    mapped = False  # masks of decoders

    def __init__(self, module: nn.Module, request: LoadRequest) -> None:
        base: Any = module.model
        network = WholeNetwork(module, base, decoder_of(base))
        super().__init__(network, layout_of(request.processor), request.processor)

    @property
    def width(self) -> int:
        """The number of columns of the input of the decoder."""
        return self.network.decoder.config.hidden_size

    def refusal(self, method: str) -> str:
        if method != "attentions":
            return ""
        return (
            f"the decoder of this model ({type(self.root).__name__}) cannot be cut at a layer, since its layers read "
            "inputs or keys that bypass the layers before them: use explain_answer"
        )

    def on_first_tokens(self, see: See) -> RemovableHandle:
        def before(_: nn.Module, args: tuple, kwargs: Keywords) -> tuple[tuple, Keywords] | None:
            tokens = see(kwargs["inputs_embeds"])
            return None if tokens is None else (args, {**kwargs, "inputs_embeds": tokens})

        return set_hook(self.network.decoder.register_forward_pre_hook, before, with_kwargs=True)

    def trace(self, inputs: Inputs, lowest: int = 0) -> Trace:
        calls: list[Keywords] = []
        last: list[Hidden] = []
        decoder = self.network.decoder
        with self.computing(), ExitStack() as hooks, torch.no_grad():
            register = decoder.register_forward_pre_hook
            hooks.enter_context(set_hook(register, lambda _, args, kwargs: calls.append(kwargs), with_kwargs=True))
            register = decoder.norm.register_forward_pre_hook
            hooks.enter_context(set_hook(register, lambda _, args: last.append(args[0].detach())))
            embedding = self.after(self.run(inputs))

        (call,) = calls
        states = call["inputs_embeds"].detach()
        of_layers = call.get(_OF_LAYERS)
        if of_layers is not None:
            states = torch.cat([states, of_layers.detach().flatten(2)], -1)
        others = {name: value for name, value in call.items() if name not in ("input_ids", "inputs_embeds", _OF_LAYERS)}
        return Trace(self, inputs, embedding, (((), others),), (states, last[0]))

    def last_states(self, stream: Float[Tensor, "batch token column"]) -> Float[Tensor, "batch token width"]:
        return super().last_states(stream[..., : self.width])

    @contextmanager
    def blend_to_padding(self, keep: PerToken) -> Iterator[None]:
        """Blend word embeddings with a neutral one inside ``with``, also those that the layers read."""
        table = getattr(self.network.decoder, "embed_tokens_per_layer", None)
        with ExitStack() as hooks:
            hooks.enter_context(super().blend_to_padding(keep))
            if table is not None:
                hooks.enter_context(set_hook(table.register_forward_hook, self.blending(keep)))
            yield
