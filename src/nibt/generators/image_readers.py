"""The tower of a generator that reads its image encoder through learned queries, or by cross-attention in its decoder.

Kosmos-2, Idefics 2 and Aria condense the states of the image encoder to a few vectors, which have no place on the
image; the decoder of Llama 3.2 Vision attends to them. So the only layer is that of the last states of the image
encoder, as the next part of the model reads them. Only the image can be narrowed, since words do not pass through this
layer.
"""

from collections.abc import Callable
from functools import partial
from typing import Any

from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from nibt.data.units import Units
from nibt.generators.answers import AnswerTower, Prompted, at_rows, trace_of_last_states, units_of_states
from nibt.generators.corners import CrossLayout, MaskedLayout, QuarterLayout
from nibt.generators.decoder_answers import AnswerNetwork, DecoderAnswerTower
from nibt.models._inputs import Inputs, See
from nibt.models._request import LoadRequest
from nibt.models._tower import Trace, first_of, part
from nibt.models._vision_language.pixels import FlattenedLayout, Layout
from nibt.models._vision_language.tiles import layout_of
from nibt.models._vision_language.towers import decoder_of, preparing
from nibt.options import Keywords
from nibt.preprocessing.captions import TOKENIZER_LOCK
from nibt.torch_modes import set_hook
from nibt.types import Embedding, Hidden


class ReaderAnswerTower(DecoderAnswerTower):
    """The last states of the image encoder of a generator, with all that reads them as the head."""

    sources = ("image",)
    offers = frozenset({"states", "stem"})  # pyright: ignore  # the head has many attentions
    mapped = False  # masks of decoders
    unread_layers = 0
    composed = AnswerTower.composed

    def __init__(self, module: nn.Module, request: LoadRequest) -> None:
        root: Any = module
        base = getattr(root, "model", root)
        network = AnswerNetwork(root, base, getattr(base, "text_model", None) or decoder_of(base))
        super().__init__(network, _layout(root, request.processor), request.processor)

    reader = part("network.base", first_of("connector", "image_to_text_projection", "multi_modal_projector"))
    """The part that reads the last states of the image encoder."""

    @property
    def blocks(self) -> list[nn.Module]:  # pyright: ignore
        """No blocks: the only layer is that of the last states."""
        return []

    def _on_states(self, see: Callable[[Hidden], Hidden | None], count: int) -> RemovableHandle:
        """Register a hook that calls ``see`` with the states of ``count`` items, and replaces them with its result."""

        def before(_: nn.Module, args: tuple, kwargs: Keywords) -> tuple[tuple, Keywords] | None:
            name = None if args else next(name for name, value in kwargs.items() if isinstance(value, Tensor))
            states = args[0] if name is None else kwargs[name]
            replaced = see(states.reshape(count, -1, states.shape[-1]))
            if replaced is None:
                return None
            shaped = replaced.reshape(states.shape)
            return ((shaped, *args[1:]), kwargs) if name is None else (args, {**kwargs, name: shaped})

        return set_hook(self.reader.register_forward_pre_hook, before, with_kwargs=True)

    def on_first_tokens(self, see: See) -> RemovableHandle:
        return self._on_states(see, 1)

    def trace(self, inputs: Inputs, lowest: int = 0) -> Trace:
        return trace_of_last_states(self, inputs, partial(self._on_states, count=len(inputs)))

    def head_inputs(self, inputs: Inputs) -> dict[str, Tensor]:
        return {**inputs.extra, "values": inputs.values}

    def head(self, stream: Hidden, extra: dict[str, Tensor]) -> Embedding:
        others = {name: value for name, value in extra.items() if name != "values"}
        with self._on_states(lambda _: stream, len(stream)):
            return self.run(Inputs(extra["values"], others))

    def run(self, inputs: Inputs) -> Embedding:
        return at_rows(self.own(inputs), inputs.extra["rows"])

    def _logits(self, states: Embedding) -> Tensor:
        return states  # which are logits, since parts of the model differ in what follows their states

    def units(self, inputs: Inputs, stream: Tensor) -> Units:
        return units_of_states(self.layout, inputs, stream.shape[1])

    def blank(self, inputs: Inputs, layer: int | None) -> Hidden:
        nothing = self.blank_inputs(inputs.take([0]))
        shapes = (tuple(value.flatten().tolist()) for name, value in sorted(nothing.extra.items()) if name != "rows")
        state = self._blank_state((nothing.values.shape, *shapes), lambda: nothing, layer)
        return state.expand(len(inputs), *state.shape[1:])


class KosmosTower(ReaderAnswerTower):
    """Kosmos-2 and Kosmos-2.5, whose processors put the image before the prompt."""

    prompts = "optional"

    def chat(self, prompt: str) -> str:
        return prompt

    def _prepared(self, prompted: Prompted) -> Any:
        with preparing(prompted.image), TOKENIZER_LOCK:
            images = self.layout.images(prompted.image)
            return dict(self.processor(text=[prompted.prompt], images=images, return_tensors="pt"))


def _layout(root: Any, processor: Any) -> Layout:
    """Return the layout of the states of an image encoder."""
    images = processor.image_processor
    cell = getattr(root.config.vision_config, "patch_size", 0)
    if hasattr(root, "model") and hasattr(root.model, "connector"):
        return QuarterLayout(images, cell)
    if hasattr(images, "max_image_tiles"):
        return CrossLayout(images, cell)
    if hasattr(images, "split_resolutions"):
        return MaskedLayout(images, cell, processor.images_kwargs.get("max_image_size", images.max_image_size))
    if hasattr(images, "extract_flattened_patches"):
        return FlattenedLayout(images, root.config.vision_config.max_num_patches)
    return layout_of(processor)


def reader_tower(module: nn.Module, request: LoadRequest) -> ReaderAnswerTower:
    """Return the tower of a generator by whether its processor puts the image before the prompt."""
    places_image = hasattr(module, "image_to_text_projection")
    return (KosmosTower if places_image else ReaderAnswerTower)(module, request)
