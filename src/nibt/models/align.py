"""ALIGN from Hugging Face Transformers: EfficientNet with BERT (Jia et al., 2021)."""

from functools import cached_property
from typing import Any

from torch import Tensor, nn

from nibt.models._heads import DualEncoder, FirstTokenTower
from nibt.models._hugging_face import get_embedding
from nibt.models._request import Request
from nibt.models.base import FeatureMapTower, Inputs
from nibt.preprocessing import hugging_face
from nibt.types import Embedding

_STRIDE = 32  # of EfficientNet's last feature map


class ALIGNImageTower(FeatureMapTower):
    """The image tower of ALIGN: the pooled feature map is the embedding."""

    root: Any

    def __init__(self, root: Any, request: Request) -> None:
        super().__init__()
        self.root = root
        processor = request.image_processor
        native = hugging_face.native_size(processor)
        self.preparation = hugging_face.image_preparation(
            processor, request.resize, request.image_size, native, _STRIDE
        )

    @cached_property
    def blocks(self) -> list[nn.Module]:
        return list(self.root.vision_model.encoder.blocks)

    def run(self, inputs: Inputs) -> Embedding:
        return get_embedding(self.root.get_image_features(inputs.values))

    def head(self, stream: Tensor, extra: dict[str, Tensor]) -> Embedding:
        return self.root.vision_model.pooler(stream).flatten(1)


class ALIGN(DualEncoder):
    """The checkpoints of ``AlignModel``."""

    model_types = ("align",)
    class_names = ("AlignModel",)
    image_tower = ALIGNImageTower
    text_tower = FirstTokenTower
