"""Embedders on vision-language models: Qwen-VL, Idefics 3, SmolVLM, PaliGemma (GME, Qwen3-VL-Embedding, VLM2Vec).

One language model serves both sides. The image side is a prompt with the image, the text side a prompt with the text,
and the embedding is the last hidden state of the last token, or the mean over all tokens. Layers are those of the
language model.
"""

import re
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn
from typing_extensions import override

from nibt.data.images import ImageInput
from nibt.models._family import Family
from nibt.models._hugging_face import load_pretrained, whole_processor
from nibt.models._request import Request
from nibt.models.base import ImageTower, TextTower
from nibt.models.vision_language._checkpoints import settings
from nibt.models.vision_language._network import PooledNetwork, decoder_of
from nibt.models.vision_language._pixels import Layout, PatchLayout, SquareLayout, TileLayout
from nibt.models.vision_language._prompts import Prompts
from nibt.models.vision_language._towers import DecoderImageTower, DecoderTextTower

_TILE = re.compile(r"<row_(\d+)_col_(\d+)>")


class VisionLanguage(Family):
    """Vision-language models that were trained to embed prompts."""

    model_types = ("qwen2_vl", "qwen2_5_vl", "qwen3_vl", "idefics3", "smolvlm", "paligemma")
    class_names = (
        "Qwen2VLForConditionalGeneration",
        "Qwen2VLModel",
        "Qwen2_5_VLForConditionalGeneration",
        "Qwen2_5_VLModel",
        "Qwen3VLForConditionalGeneration",
        "Qwen3VLModel",
        "Idefics3ForConditionalGeneration",
        "Idefics3Model",
        "SmolVLMForConditionalGeneration",
        "SmolVLMModel",
        "PaliGemmaForConditionalGeneration",
        "PaliGemmaModel",
    )
    has_logits = False

    @staticmethod
    @override
    def load(source: str, request: Request) -> tuple[nn.Module, Request]:
        from transformers import AutoModel

        settings(source, request)  # before weights are loaded
        processor = whole_processor(source, request)
        return load_pretrained(AutoModel, source, replace(request, processor=processor, tokenizer=processor.tokenizer))

    @staticmethod
    @override
    def resolved(source: str, request: Request) -> Request:
        values = settings(source, request)
        prompts = Prompts.of(request.processor, values)
        values |= {"image_prompt": prompts.image, "text_prompt": prompts.text}
        recorded = ("pooling", "image_prompt", "text_prompt", "positions")
        facts = {key: values[key] for key in recorded if key in values}
        return replace(request, embedding=values, facts={**request.facts, **facts})

    @staticmethod
    @override
    def towers(module: nn.Module, request: Request) -> tuple[ImageTower, TextTower]:
        values = request.embedding
        base = module if hasattr(module, "language_model") or hasattr(module, "text_model") else module.model
        network = PooledNetwork(module, base, decoder_of(base), values["pooling"], values.get("positions"))
        processor, prompt, layout = request.processor, values["image_prompt"], layout_of(request.processor)

        def encode(image: ImageInput) -> Mapping[str, Tensor]:
            images = [image.pil_image]
            listed = [images] if isinstance(layout, TileLayout) else images  # which takes the images of each prompt
            return encoded(processor, processor(text=[prompt], images=listed, return_tensors="pt"))

        image = DecoderImageTower(network, layout, image_token_id(module), encode)
        typed = "token_type_ids" in processor.model_input_names
        return image, DecoderTextTower(network, processor.tokenizer, values["text_prompt"], typed)


def image_token_id(module: Any) -> int:
    """Return the id of the tokens that stand for parts of an image."""
    return getattr(module.config, "vlm_config", module.config).image_token_id


def layout_of(processor: Any, nested: bool = False) -> Layout:
    """Return the layout of a processor's pixels.

    Args:
        processor: The processor.
        nested: Whether the model takes flattened patches with a batch dimension.

    """
    images = processor.image_processor
    if hasattr(images, "merge_size"):
        return PatchLayout(images, nested)
    return TileLayout(images) if hasattr(images, "do_image_splitting") else SquareLayout(images)


def encoded(processor: Any, output: Mapping[str, Tensor]) -> Mapping[str, Tensor]:
    """Return the output of a processor, with the number of tiles in rows and columns if it divides images."""
    values = dict(output)
    if "pixel_attention_mask" in values:
        places = _TILE.findall(processor.tokenizer.decode(values["input_ids"][0]))
        rows, columns = (max((int(place[axis]) for place in places), default=0) for axis in (0, 1))
        values["tiles"] = torch.tensor([rows, columns], device="cpu")
    return values


PLUGIN = VisionLanguage
