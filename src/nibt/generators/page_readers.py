"""The tower of a generator that reads pages: an image encoder of its own, and a decoder that attends to its states.

Donut and Nougat have a hierarchical encoder (Swin), whose last states are those of large cells; Pix2Struct cuts an
image of any aspect ratio into a fixed number of patches. The only layer is that of the last states of the encoder.
"""

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import replace
from functools import cached_property
from operator import methodcaller
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from nibt.data.images import MOST_PIXELS, ImageInput, Region
from nibt.data.units import Grid, Units
from nibt.errors import BadInput, Unsupported
from nibt.generators.answers import (
    AnswerTokens,
    ForcedWord,
    Prompted,
    at_rows,
    forced_inputs,
    trace_of_last_states,
    units_of_states,
)
from nibt.generators.encoder_answers import EncoderAnswers
from nibt.models._inputs import Inputs, See
from nibt.models._request import LoadRequest
from nibt.models._tower import Trace, part
from nibt.models._vision_language.pixels import FlattenedLayout, Layout, ordered
from nibt.models._vision_language.towers import preparing, without_blocks
from nibt.options import Keywords
from nibt.preprocessing.images import ImageProcessor
from nibt.torch_modes import set_hook
from nibt.types import Embedding, Hidden


class SwinLayout(Layout):
    """A page that is padded around its center to a fixed size, as in Donut and Nougat.

    Cells of padding have states, too, so the grid covers the padded page.
    """

    shiftable = False

    def __init__(self, processor: ImageProcessor, cell: int) -> None:
        super().__init__(processor)
        self.cell = cell

    def images(self, image: ImageInput) -> Any:
        """Return the page, if the processor does not make a huge one of it: it resizes the short side to its own."""
        across, down = self._margins(image)[2:]
        size: Any = self.processor.size
        short = min(size["height"], size["width"])
        pixels = short**2 * max(across, down) / min(across, down)
        if getattr(self.processor, "do_resize", True) and pixels > MOST_PIXELS:
            raise BadInput(
                f"the model's processor would make an image of more than {MOST_PIXELS:,} pixels of the {across} x "
                f"{down} pixels of the page {image.source!r:.300}, whose short side it resizes to {short}: crop it"
            )

        return super().images(image)

    def _margins(self, image: ImageInput) -> tuple[int, int, int, int]:
        """Return the part of the page that the processor keeps: left, top, width and height in pixels."""
        width, height = image.size
        processor = self.processor
        if not getattr(processor, "do_crop_margin", False):
            return 0, 0, width, height

        pixels = torch.from_numpy(np.array(image.pil_image)).permute(2, 0, 1).contiguous()
        kept = processor.crop_margin(pixels)
        down, across = kept.shape[-2:]
        top, left = divmod(kept.storage_offset(), width)  # a part of an image is a view of it
        if not torch.equal(kept, pixels[:, top : top + down, left : left + across]):
            raise Unsupported(
                "it is not known which part of the page the processor keeps: set its do_crop_margin to False"
            )
        return left, top, across, down

    def region(self, image: ImageInput) -> Region:
        """Return the rectangle of the padded page in pixels of the image, which it may exceed."""
        left, top, across, down = self._margins(image)
        with preparing(image):
            shown, padded = (
                self.processor(image.pil_image, do_pad=pad, return_tensors="pt")["pixel_values"].shape[-2:]
                for pad in (False, True)
            )
        if getattr(self.processor, "do_align_long_axis", False) and (across > down) != (shown[1] > shown[0]):
            raise Unsupported(
                "the processor turns this image by 90 degrees, and its map would be turned, too: turn the image "
                "before, or set do_align_long_axis of the processor to False"
            )

        vertical = down / shown[0]
        horizontal = across / shown[1]
        above = (padded[0] - shown[0]) // 2
        before = (padded[1] - shown[1]) // 2
        return Region(left - before * horizontal, top - above * vertical, padded[1] * horizontal, padded[0] * vertical)

    def grid(self, inputs: Inputs, places: tuple[int, ...]) -> Grid:
        height, width = self.extent(inputs)
        return ordered(Grid(height // self.cell, width // self.cell, places=places))


class PageAnswerTower(EncoderAnswers):
    """The last states of the image encoder, whose decoder begins with the prompt."""

    prompts = "optional"
    unread_layers = 0
    root: Any

    def __init__(self, root: nn.Module, request: LoadRequest) -> None:
        super().__init__()
        self.root = root
        self.tokenizer = request.text_tokenizer
        self.processor = request.processor  # which may have other settings than the image processor in it
        images = request.image_processor
        if getattr(images, "is_vqa", False):
            raise Unsupported(
                "its processor draws the prompt on the image before the model reads it, which nibt does not support: "
                "use a checkpoint of Pix2Struct that describes images, or a model that reads a prompt, such as LLaVA"
            )
        self.layout = self._page(images)
        self.blank_value = self.layout.blank  # pyright: ignore

    def _page(self, images: ImageProcessor) -> Layout:
        if hasattr(images, "extract_flattened_patches"):
            return FlattenedLayout(images, self.root.config.vision_config.seq_len)
        config = self.root.config.encoder
        return SwinLayout(images, config.patch_size * 2 ** (len(config.depths) - 1))

    embedder = part("root", methodcaller("get_output_embeddings"))
    decoder = part("root.decoder")

    @cached_property
    def context(self) -> int:  # pyright: ignore
        """The largest number of tokens of the prompt and the answer; decoders with relative positions have no limit."""
        config = getattr(self.root.config, "decoder", None)
        return getattr(config, "max_position_embeddings", 2**16)

    @property
    def blocks(self) -> list[nn.Module]:  # pyright: ignore
        """No blocks: the only layer is that of the last states."""
        return []

    def prompt_ids(self, prompt: str) -> dict[str, list[int]]:
        settings = self.root.generation_config, self.root.config, self.root.config.get_text_config(decoder=True)
        names = ("decoder_start_token_id", "bos_token_id", "pad_token_id")
        starts = (getattr(values, name, None) for name in names for values in settings)
        start = next(start for start in starts if start is not None)
        words = self.tokenizer(prompt, add_special_tokens=False).input_ids if prompt else []
        tasks = {*self.tokenizer.all_special_ids}  # a task prompt of Donut is what its decoder begins with
        return {"ids": words if words and words[0] in tasks else [start, *words]}

    def _prepared(self, image: ImageInput) -> Inputs:
        with preparing(image):
            encoded: Mapping[str, Tensor] = self.processor(images=self.layout.images(image), return_tensors="pt")
            values, extra = self.layout.values(encoded)
        values = values[None].to(self.example.device, self.dtype)
        places = {name: value[None].to(values.device) for name, value in extra.items()}
        return Inputs(values, places, regions=(self.layout.region(image),), notes=(self.layout.notes(image),))

    def prepare(self, items: Sequence[ForcedWord]) -> Inputs:
        prompted = items[0].prompted
        answer = items[0].answer
        texts = self._texts(prompted.prompt, answer.ids)
        start = texts["ids"].shape[1] - len(answer.ids)
        inputs = self._prepared(prompted.image)
        inputs = replace(inputs, extra={**inputs.extra, **texts}).take([0] * len(items))
        nothing = torch.zeros(len(items), 1, dtype=torch.bool, device="cpu")
        return forced_inputs(inputs, items, start - 1, ("",), ((),) * len(items), nothing)

    def write(self, prompted: Prompted, most: int) -> AnswerTokens:
        inputs = self._prepared(prompted.image)
        ids = self._texts(prompted.prompt)["ids"]
        options: Keywords = {**self._seen(inputs), "decoder_input_ids": ids}
        written = self.generate(most, **options)
        return self.written(written[ids.shape[1] :], most)

    def answer_ids(self, pixels: Tensor, texts: dict[str, Tensor], most: int) -> Sequence[int]:
        raise NotImplementedError("write prepares images by itself")

    def extent(self, inputs: Inputs) -> tuple[int, int]:
        return self.layout.extent(inputs)

    def _seen(self, inputs: Inputs) -> dict[str, Tensor]:
        """Return the arguments of the model for the images, with the mask of patches that are no padding."""
        return {**self.layout.arguments(inputs), **_mask(inputs.extra)}

    def encoded(self, pixels: Tensor) -> Hidden:
        raise NotImplementedError("run reads the whole inputs")

    def after_blocks(self, stream: Hidden) -> Tensor:
        return stream

    def _on_states(self, see: Callable[[Hidden], Hidden | None]) -> RemovableHandle:
        """Register a hook that calls ``see`` with the states of the encoder, and replaces them with its result."""

        def after(_: nn.Module, args: tuple, out: Any) -> Any:
            replaced = see(out[0])
            if replaced is not None:
                out.last_hidden_state = replaced
            return out

        return set_hook(self.root.encoder.register_forward_hook, after)

    def on_first_tokens(self, see: See) -> RemovableHandle:
        return self._on_states(see)

    def unmixed(self) -> AbstractContextManager[None]:
        """Skip the blocks of the encoder inside ``with``."""
        return without_blocks(self.root, self.decoder)

    def trace(self, inputs: Inputs, lowest: int = 0) -> Trace:
        return trace_of_last_states(self, inputs, self._on_states)

    def head_inputs(self, inputs: Inputs) -> dict[str, Tensor]:
        return {**inputs.extra, "values": inputs.values}

    def decoded(self, states: Hidden, texts: dict[str, Tensor]) -> Tensor:
        from transformers.modeling_outputs import BaseModelOutput

        output = self.root(
            encoder_outputs=BaseModelOutput(last_hidden_state=states),  # pyright: ignore
            decoder_input_ids=texts["ids"],
            use_cache=False,
            **_mask(texts),
        )
        return output.logits

    def head(self, stream: Hidden, extra: dict[str, Tensor]) -> Embedding:
        return at_rows(self.decoded(stream, extra), extra["rows"])

    def own(self, inputs: Inputs) -> Tensor:
        return self.root(**self._seen(inputs), decoder_input_ids=inputs.extra["ids"], use_cache=False).logits

    def run(self, inputs: Inputs) -> Embedding:
        return at_rows(self.own(inputs), inputs.extra["rows"])

    def units(self, inputs: Inputs, stream: Tensor) -> Units:
        return units_of_states(self.layout, inputs, stream.shape[1])

    def pixel_weights(self, inputs: Inputs, keep: Tensor) -> Tensor:
        return self.layout.weights(inputs, keep).to(inputs.values)


def _mask(extra: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return the mask of the patches of Pix2Struct that are no padding; nothing for images of one size."""
    if "flattened_places" not in extra:
        return {}
    return {"attention_mask": (extra["flattened_places"][..., 0] > 0).float()}
