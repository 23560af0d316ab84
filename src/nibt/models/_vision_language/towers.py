"""The two towers of a vision-language model: one language model that reads a prompt with an image, or with a text."""

from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from functools import cached_property
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from nibt.data.images import ImageInput
from nibt.data.units import Units
from nibt.errors import BadInput
from nibt.models._tower import Tower, part
from nibt.models._trace import Cut, Inputs
from nibt.models._vision_language.network import Network, image_token_id
from nibt.models._vision_language.pixels import Layout
from nibt.models._vision_language.prompts import tokens
from nibt.models.base import ImageTower, TextTower
from nibt.preprocessing.captions import Tokens
from nibt.torch_modes import float32_numbers
from nibt.types import Embedding, Hidden

Encode = Callable[[ImageInput], Mapping[str, Tensor]]
"""Prepares an image in its prompt with the model's processor."""
_PROMPT = ("input_ids", "attention_mask", "mm_token_type_ids", "token_type_ids")


@contextmanager
def preparing(image: ImageInput) -> Iterator[None]:
    """Convert what a processor raises for an image that it cannot prepare, such as one with an aspect ratio of 200."""
    try:
        with float32_numbers():
            yield
    except ValueError as error:
        width, height = image.size
        raise BadInput(
            f"the model's processor cannot prepare the image {image.source!r} of {width} x {height} pixels "
            f"({error}): crop it, or use another model"
        ) from error


class _DecoderTower(Tower):
    """What both sides share: the layers of the language model, and the head."""

    distributes = False
    shared = frozenset({"rope"})  # positions of tokens have a batch dimension here
    network: Network

    blocks = part("network.layers")

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

    @property
    def shiftable(self) -> bool:  # pyright: ignore
        return self.layout.shiftable

    def additions(self) -> AbstractContextManager[list[Tensor]]:
        return self.network.additions()

    def stem(self, inputs: Inputs) -> Cut:
        return self.trace(inputs).cut(0)  # the features of the image in its prompt, with those that are added later

    def units(self, inputs: Inputs, stream: Tensor) -> Units:
        return self.layout.grid(inputs, self.places(inputs))

    def places(self, inputs: Inputs) -> tuple[int, ...]:
        """Return the rows of the image, which those of an overview and ends of rows belong to."""
        return tuple((inputs.extra["input_ids"][0] == image_token_id(self.root)).nonzero()[:, 0].tolist())

    def extent(self, inputs: Inputs) -> tuple[int, int]:
        return self.layout.extent(inputs)

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
        self.root, self.network, self.layout, self.encode_image = network.root, network, layout, encode_image

    def _encoded(self, item: ImageInput) -> Mapping[str, Tensor]:
        with preparing(item):
            return self.encode_image(item)

    def group(self, item: ImageInput) -> Hashable:
        encoded = self._encoded(item)
        sizes = (encoded[name] for name in ("image_grid_thw", "tiles") if name in encoded)
        return encoded["input_ids"].shape[1], *(tuple(size.flatten().tolist()) for size in sizes)

    def prepare(self, items: Sequence[ImageInput]) -> Inputs:
        values, extras = [], []
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

    def __init__(self, network: Network, processor: Any, prompt: str) -> None:
        super().__init__()
        self.root, self.network, self.tokenizer, self.prompt = network.root, network, processor.tokenizer, prompt
        # types are 0 for prompts; without them, PaliGemma would mask a padded batch in another way than a single text
        self.typed = "token_type_ids" in processor.model_input_names

    @cached_property
    def embedder(self) -> nn.Module:
        return self.network.base.get_input_embeddings()

    def tokens(self, caption: str) -> Tokens:
        return tokens(self.tokenizer, self.prompt, caption, self.network.context)

    def extra(self, tokens: Sequence[Tokens], ids: Tensor) -> dict[str, Tensor]:
        extra = super().extra(tokens, ids)
        return {**extra, "token_type_ids": torch.zeros_like(ids)} if self.typed else extra

    def run(self, inputs: Inputs) -> Embedding:
        return self.network.run({"input_ids": inputs.values, **inputs.extra})
