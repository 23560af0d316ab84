"""``VisionTextDualEncoderModel`` of Hugging Face Transformers: an image tower and a text tower of other models.

Image towers are those of CLIP and SigLIP, and ViTs with a class token. Text towers are BERT, RoBERTa and CLIP's.
"""

from functools import cached_property
from typing import Any

from torch import Tensor

from nibt.data.units import Grid, Units
from nibt.errors import Unsupported
from nibt.models._heads import ClassTokenTower, DualEncoder, EndTokenTower, FirstTokenTower
from nibt.models._request import Request
from nibt.models.base import ImageTower, Inputs, TextTower
from nibt.options import Keywords
from nibt.types import Embedding


class PooledImageTower(ClassTokenTower):
    """An image tower with the pooled output of its encoder and a projection."""

    @cached_property
    def vision(self) -> Any:
        return self.encoder(self.root)

    @staticmethod
    def encoder(module: Any) -> Any:
        """Return the encoder of images, which older CLIP and SigLIP have inside of a class."""
        return getattr(module.vision_model, "vision_model", module.vision_model)

    def head(self, stream: Tensor, extra: dict[str, Tensor]) -> Embedding:
        vision = self.vision
        if hasattr(vision, "head"):  # SigLIP
            return self.projection(vision.head(vision.post_layernorm(stream)))
        if hasattr(vision, "post_layernorm"):  # CLIP
            return super().head(stream, extra)
        norm, pooler = vision.norm if hasattr(vision, "norm") else vision.layernorm, getattr(vision, "pooler", None)
        normed = norm(stream)
        return self.projection(normed[:, 0] if pooler is None else pooler(normed))

    def last(self, stream: Tensor, extra: dict[str, Tensor], args: tuple, kwargs: Keywords) -> Embedding | None:
        return None if hasattr(self.vision, "head") else super().last(stream, extra, args, kwargs)

    def units(self, inputs: Inputs, stream: Tensor) -> Units:
        height, width = inputs.values.shape[-2:]
        rows, columns = height // self.patch, width // self.patch
        return Grid(rows, columns, stream.shape[1] - rows * columns)


class PooledTextTower(FirstTokenTower):
    """A text tower with the pooled output of its encoder and a projection."""

    def head(self, stream: Tensor, extra: dict[str, Tensor]) -> Embedding:
        return self.projection(self.model.pooler(stream))


class CLIPText(EndTokenTower):
    """The text tower of CLIP as the encoder of captions."""

    @cached_property
    def model(self) -> Any:
        return getattr(self.root.text_model, "text_model", self.root.text_model)


class VisionTextDualEncoder(DualEncoder):
    """The checkpoints of ``VisionTextDualEncoderModel``."""

    model_types = ("vision-text-dual-encoder",)
    class_names = ("VisionTextDualEncoderModel",)
    auto_class = "VisionTextDualEncoderModel"

    @classmethod
    def towers(cls, module: Any, request: Request) -> tuple[ImageTower, TextTower]:
        vision = PooledImageTower.encoder(module)
        if not hasattr(vision.config, "image_size") or not (
            hasattr(vision, "post_layernorm") or hasattr(vision.embeddings, "cls_token")
        ):
            raise Unsupported(
                f"{cls.auto_class} with the image tower {type(vision).__name__} is supported by no method, since nibt "
                "needs layers of one sequence of patches, with a class token or the norm of CLIP and SigLIP: use a "
                "ViT, DeiT, BEiT, DINOv2, DINOv3, CLIP or SigLIP"
            )
        text = PooledTextTower if hasattr(module.text_model, "pooler") else CLIPText
        return PooledImageTower(module, request), text(module, request)
