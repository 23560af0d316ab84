"""Families of Hugging Face Transformers with both encoders in one class, whose parts differ from those of CLIP."""

from collections.abc import Sequence
from math import exp
from typing import Any

import torch
from jaxtyping import Bool
from torch import Tensor, nn

from nibt.models._heads import ClassTokenTower, DualEncoder, EndTokenTower, FirstTokenTower
from nibt.models._hugging_face import HuggingFaceImageTower, HuggingFaceTextTower
from nibt.models._request import LoadRequest
from nibt.models._tower import part
from nibt.models.base import FeatureMapTower, Inputs
from nibt.preprocessing import hugging_face
from nibt.preprocessing.captions import Tokens
from nibt.types import Embedding, Hidden


class AIMv2ImageTower(HuggingFaceImageTower):
    """The image tower of AIMv2, which pools by attention. With learned positions it takes images of one size only."""

    interpolates = True

    def __init__(self, root: nn.Module, request: LoadRequest) -> None:
        config: Any = root.config
        self.any_size = config.vision_config.is_native
        super().__init__(root, request)

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


class AIMv2(DualEncoder, name="aimv2"):
    """AIMv2's model of images and text from Hugging Face Transformers (Fini et al., 2024)."""

    image_tower = AIMv2ImageTower
    text_tower = AIMv2TextTower

    @classmethod
    def scale_and_bias(cls, module: Any) -> tuple[float, float]:
        return exp(min(max(module.logit_scale.item(), 0.0), module.max_log_logit_scale)), 0.0


_STRIDE = 32  # of EfficientNet's last feature map


class ALIGNImageTower(FeatureMapTower):
    """The image tower of ALIGN: the pooled feature map is the embedding."""

    root: Any

    def __init__(self, root: nn.Module, request: LoadRequest) -> None:
        super().__init__()
        self.root = root
        processor = request.image_processor
        native = hugging_face.native_size(processor)
        self.preparation = hugging_face.image_preparation(
            processor, request.resize, request.image_size, native, _STRIDE
        )

    blocks = part("root.vision_model.encoder.blocks", list)

    def run(self, inputs: Inputs) -> Embedding:
        return self.root.get_image_features(inputs.values).pooler_output

    def head(self, stream: Tensor, extra: dict[str, Tensor]) -> Embedding:
        return self.root.vision_model.pooler(stream).flatten(1)


class ALIGN(DualEncoder, name="align"):
    """ALIGN from Hugging Face Transformers: EfficientNet with BERT (Jia et al., 2021)."""

    image_tower = ALIGNImageTower
    text_tower = FirstTokenTower


class FLAVAImageTower(ClassTokenTower):
    """The image tower of FLAVA. The model projects all tokens, of which the class token is the embedding."""

    vision = part("root.image_model")
    vision_config = part("root.config.image_config")
    norm = part("vision.layernorm")
    projection = part("root.image_projection")

    def run(self, inputs: Inputs) -> Embedding:
        return super().run(inputs)[:, 0]


class FLAVATextTower(FirstTokenTower):
    """The text tower of FLAVA."""

    norm = part("model.layernorm")

    def run(self, inputs: Inputs) -> Embedding:
        return super().run(inputs)[:, 0]


class FLAVA(DualEncoder, name="flava"):
    """The contrastive part of FLAVA from Hugging Face Transformers (Singh et al., 2022)."""

    within = "flava"
    unread = r"^(image_codebook|itm_head|mim_head|mlm_head|mmm_image_head|mmm_text_head)\."
    image_tower = FLAVAImageTower
    text_tower = FLAVATextTower


class TIPSv2ImageTower(ClassTokenTower):
    """The image tower of TIPSv2, which interpolates its positions without an option."""

    norm = part("vision.layernorm")
    projection = nn.Identity()
    interpolates = True
    prefix = part("vision_config.num_register_tokens", lambda registers: 1 + registers)


class TIPSv2TextTower(HuggingFaceTextTower):
    """The text tower of TIPSv2, whose embedding is the mean over the tokens of a caption."""

    def head_inputs(self, inputs: Inputs) -> dict[str, Tensor]:
        return {"mask": inputs.extra["attention_mask"]}

    def head(self, stream: Tensor, extra: dict[str, Tensor]) -> Embedding:
        kept: Any = self.model.final_layer_norm(stream) * extra["mask"][..., None]
        return kept.sum(1) / (extra["mask"].sum(1, keepdim=True) + self.config.pooling_epsilon)


class TIPSv2(DualEncoder, name="tipsv2"):
    """TIPSv2 from Hugging Face Transformers.

    Its processor does not normalize pixels, so a blank image is gray. Register tokens follow the class token, captions
    are averaged, and neither tower has a projection.
    """

    image_tower = TIPSv2ImageTower
    text_tower = TIPSv2TextTower
