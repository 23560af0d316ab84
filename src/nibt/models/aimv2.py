"""AIMv2's model of images and text from Hugging Face Transformers (Fini et al., 2024)."""

from collections.abc import Sequence
from math import exp
from typing import Any

import torch
from jaxtyping import Bool
from torch import Tensor

from nibt.models._heads import DualEncoder, EndTokenTower
from nibt.models._hugging_face import HuggingFaceImageTower
from nibt.models._request import Request
from nibt.models._tower import part
from nibt.models.base import Inputs
from nibt.preprocessing.captions import Tokens
from nibt.types import Embedding, Hidden


class AIMv2ImageTower(HuggingFaceImageTower):
    """The image tower of AIMv2, which pools by attention. With learned positions it takes images of one size only."""

    def __init__(self, root: Any, request: Request) -> None:
        self.any_size = root.config.vision_config.is_native
        super().__init__(root, request)

    def size_options(self, inputs: Inputs) -> dict[str, bool]:
        return {}

    def head(self, stream: Tensor, extra: dict[str, Tensor]) -> Embedding:
        return self.root.visual_projection(self.vision.head(self.vision.rms_norm(stream)))


class AIMv2TextTower(EndTokenTower):
    """The text tower of AIMv2.

    With ``sdpa`` Transformers applies the causal mask only if a caption of the batch is padded, so that an embedding
    would depend on the batch. It is passed explicitly here.
    """

    end = part("model.eos_token_id")
    norm = part("model.rms_norm")

    def extra(self, tokens: Sequence[Tokens], ids: Tensor) -> dict[str, Tensor]:
        count = ids.shape[1]
        present = super().extra(tokens, ids)["attention_mask"].bool()
        visible = present[:, None, None] & ids.new_ones(count, count).tril().bool()
        hidden = torch.zeros(visible.shape, dtype=self.dtype, device=ids.device)
        return {"attention_mask": hidden.masked_fill(~visible, torch.finfo(hidden.dtype).min)}

    def valid_tokens(self, inputs: Inputs, hidden: Hidden) -> Bool[Tensor, "batch token"]:
        return inputs.extra["attention_mask"][:, 0, -1] == 0


class AIMv2(DualEncoder):
    """The checkpoints of ``Aimv2Model``."""

    model_types = ("aimv2",)
    class_names = ("Aimv2Model",)
    image_tower = AIMv2ImageTower
    text_tower = AIMv2TextTower

    @classmethod
    def scale_and_bias(cls, module: Any) -> tuple[float, float]:
        return exp(min(max(module.logit_scale.item(), 0.0), module.max_log_logit_scale)), 0.0
