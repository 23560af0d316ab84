"""CLIP from Hugging Face Transformers, with or without PEFT adapters (Radford et al., 2021)."""

from collections.abc import Sequence
from typing import Any

import torch
from jaxtyping import Bool
from torch import Tensor, nn
from typing_extensions import override

from nibt.models._family import Family
from nibt.models._hugging_face import (
    HuggingFaceImageTower,
    HuggingFaceTextTower,
    get_embedding,
    load_pretrained,
    one_row,
)
from nibt.models._request import Request
from nibt.models.base import ImageTower, Inputs, TextTower
from nibt.preprocessing import hugging_face
from nibt.preprocessing.captions import Tokens
from nibt.types import Embedding, Hidden


class CLIPImageTower(HuggingFaceImageTower):
    """The image tower of CLIP."""

    prefix = 1

    @property
    @override
    def entry(self) -> nn.Module:
        return self.vision.pre_layrnorm

    @override
    def head(self, stream: Tensor, extra: dict[str, Tensor]) -> Embedding:
        return self.root.visual_projection(self.vision.post_layernorm(stream[:, 0]))

    @override
    def last(self, stream: Tensor, extra: dict[str, Tensor], args: tuple, kwargs: dict[str, Any]) -> Embedding | None:
        row = one_row(self.blocks[-1], stream, stream.new_zeros(len(stream), dtype=torch.long), *args, **kwargs)
        return None if row is None else self.head(row, extra)


class CLIPTextTower(HuggingFaceTextTower):
    """The text tower of CLIP."""

    @override
    def extra(self, tokens: Sequence[Tokens], ids: Tensor) -> dict[str, Tensor]:
        return {"attention_mask": hugging_face.attention_mask(ids, tokens)}

    @override
    def valid_tokens(self, inputs: Inputs, hidden: Hidden) -> Bool[Tensor, "batch token"]:
        return inputs.extra["attention_mask"].bool()

    @override
    def run(self, inputs: Inputs) -> Embedding:
        return get_embedding(self.root.get_text_features(inputs.values, **inputs.extra))

    @override
    def head_inputs(self, inputs: Inputs) -> dict[str, Tensor]:
        end, ids = self.model.eos_token_id, inputs.values
        # configs from before Transformers pull request 24773 have 2, which means the highest id of the caption
        is_end = ids == (ids.amax(1, keepdim=True) if end == 2 else end)
        return {"row": is_end.int().argmax(1)}

    @override
    def head(self, stream: Tensor, extra: dict[str, Tensor]) -> Embedding:
        rows = stream[torch.arange(len(stream), device=stream.device), extra["row"]]
        return self.root.text_projection(self.model.final_layer_norm(rows))

    @override
    def last(self, stream: Tensor, extra: dict[str, Tensor], args: tuple, kwargs: dict[str, Any]) -> Embedding | None:
        row = one_row(self.blocks[-1], stream, extra["row"], *args, **kwargs)
        return None if row is None else self.head(row, {"row": torch.zeros_like(extra["row"])})


class CLIP(Family):
    """The checkpoints of ``CLIPModel``."""

    model_types = ("clip",)
    class_names = ("CLIPModel",)

    @staticmethod
    @override
    def load(source: str, request: Request) -> tuple[nn.Module, Request]:
        from transformers import CLIPModel

        return load_pretrained(CLIPModel, source, request)

    @staticmethod
    @override
    def towers(module: nn.Module, request: Request) -> tuple[ImageTower, TextTower]:
        return CLIPImageTower(module, request), CLIPTextTower(module, request)


PLUGIN = CLIP
