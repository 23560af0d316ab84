"""``VisionTextDualEncoderModel`` of Hugging Face Transformers: a ViT or CLIP's image tower, with BERT or RoBERTa."""

from typing import Any

from torch import Tensor
from typing_extensions import override

from nibt.data.units import Grid, Units
from nibt.models._heads import ClassTokenTower, DualEncoder, EndTokenTower, FirstTokenTower
from nibt.models._request import Request
from nibt.models.base import ImageTower, Inputs, TextTower
from nibt.types import Embedding


class PooledImageTower(ClassTokenTower):
    """An image tower with the pooled output of its encoder and a projection."""

    @property
    @override
    def vision(self) -> Any:
        return getattr(self.root.vision_model, "vision_model", self.root.vision_model)

    @override
    def head(self, stream: Tensor, extra: dict[str, Tensor]) -> Embedding:
        if hasattr(self.vision, "post_layernorm"):  # CLIP
            return super().head(stream, extra)
        normed, pooler = self.vision.layernorm(stream), getattr(self.vision, "pooler", None)
        return self.projection(normed[:, 0] if pooler is None else pooler(normed))

    @override
    def units(self, inputs: Inputs, stream: Tensor) -> Units:
        height, width = inputs.values.shape[-2:]
        rows, columns = height // self.patch, width // self.patch
        return Grid(rows, columns, stream.shape[1] - rows * columns)


class PooledTextTower(FirstTokenTower):
    """A text tower with the pooled output of its encoder and a projection."""

    @override
    def head(self, stream: Tensor, extra: dict[str, Tensor]) -> Embedding:
        return self.projection(self.model.pooler(stream))


class CLIPText(EndTokenTower):
    """The text tower of CLIP as the encoder of captions."""

    @property
    @override
    def model(self) -> Any:
        return getattr(self.root.text_model, "text_model", self.root.text_model)


class VisionTextDualEncoder(DualEncoder):
    """The checkpoints of ``VisionTextDualEncoderModel``."""

    model_types = ("vision-text-dual-encoder",)
    class_names = ("VisionTextDualEncoderModel",)
    auto_class = "VisionTextDualEncoderModel"

    @classmethod
    @override
    def towers(cls, module: Any, request: Request) -> tuple[ImageTower, TextTower]:
        text = PooledTextTower if hasattr(module.text_model, "pooler") else CLIPText
        return PooledImageTower(module, request), text(module, request)


PLUGIN = VisionTextDualEncoder
