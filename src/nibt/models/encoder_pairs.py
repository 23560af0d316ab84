"""Families of an image encoder and a text encoder that are separate models."""

from dataclasses import dataclass
from functools import cached_property
from operator import attrgetter
from typing import Any

from torch import Tensor, nn
from transformers import PreTrainedConfig
from transformers.modeling_outputs import BaseModelOutputWithPooling

from nibt.data.units import Grid, Units
from nibt.errors import CannotLoad, Unsupported
from nibt.models._family import Family, class_names
from nibt.models._heads import ClassTokenTower, DualEncoder, EndTokenTower, FirstTokenTower
from nibt.models._request import LoadRequest
from nibt.models._text_tower import TextTower
from nibt.models._tower import part
from nibt.models.base import ImageTower, Inputs
from nibt.records import JsonObject
from nibt.types import Embedding

_SCALE = 100.0


@dataclass(frozen=True)
class Configurations:
    """The configurations of both models, by the names that CLIP has for them."""

    vision_config: PreTrainedConfig
    text_config: PreTrainedConfig

    def to_dict(self) -> JsonObject:
        """Return both as plain data."""
        return {"vision_config": self.vision_config.to_dict(), "text_config": self.text_config.to_dict()}


class ProjectionPair(nn.Module):
    """``CLIPVisionModelWithProjection`` and ``CLIPTextModelWithProjection``, or those of MetaCLIP 2."""

    def __init__(self, vision: nn.Module, text: nn.Module) -> None:
        super().__init__()
        self.vision = vision
        self.text = text
        vision_config: Any = vision.config
        text_config: Any = text.config
        self.config = Configurations(vision_config, text_config)
        self.training = vision.training or text.training

    vision_model = property(attrgetter("vision.vision_model"))
    visual_projection = property(attrgetter("vision.visual_projection"))
    text_model = property(attrgetter("text.text_model"))
    text_projection = property(attrgetter("text.text_projection"))

    def get_image_features(self, pixel_values: Tensor, **options: object) -> BaseModelOutputWithPooling:
        """Compute the embeddings of images."""
        return BaseModelOutputWithPooling(pooler_output=self.vision(pixel_values, **options).image_embeds)

    def get_text_features(self, input_ids: Tensor, **options: object) -> BaseModelOutputWithPooling:
        """Compute the embeddings of captions."""
        return BaseModelOutputWithPooling(pooler_output=self.text(input_ids, **options).text_embeds)


class PairTextTower(EndTokenTower):
    """The text tower of a pair; only that of CLIP has the old rule for an end token with the id 2."""

    @cached_property
    def end(self) -> int | None:
        is_clip = "CLIPTextModelWithProjection" in class_names(self.root.text)
        return super().end if is_clip else self.model.eos_token_id


class PairFamily(Family, name="projection_pair"):
    """An image model and a text model in memory, given as a pair: CLIP's or MetaCLIP 2's classes ``...WithProjection``.

    They have no logit scale, so logits have that of CLIP after training, 100.
    """

    needs_processor = True

    @staticmethod
    def load(source: str, request: LoadRequest) -> tuple[nn.Module, LoadRequest]:
        raise CannotLoad("an image model and a text model are loaded by Transformers, and given as a pair")

    @staticmethod
    def towers(module: nn.Module, request: LoadRequest) -> tuple[ImageTower, TextTower]:
        return ClassTokenTower(module, request), PairTextTower(module, request)

    @staticmethod
    def scale_and_bias(module: nn.Module) -> tuple[float, float]:
        return _SCALE, 0.0


def encoder_of_images(module: nn.Module) -> Any:
    """Return the encoder of images, which older CLIP and SigLIP have inside of a class."""
    vision: Any = module.vision_model
    return getattr(vision, "vision_model", vision)


class PooledImageTower(ClassTokenTower):
    """An image tower with the pooled output of its encoder and a projection."""

    vision = part("root", encoder_of_images)
    reads_first_row = part("vision", lambda vision: not hasattr(vision, "head"))

    def head(self, stream: Tensor, extra: dict[str, Tensor]) -> Embedding:
        vision = self.vision
        if hasattr(vision, "head"):  # SigLIP
            return self.projection(vision.head(vision.post_layernorm(stream)))
        if hasattr(vision, "post_layernorm"):  # CLIP
            return super().head(stream, extra)

        norm = vision.norm if hasattr(vision, "norm") else vision.layernorm
        pooler = getattr(vision, "pooler", None)
        normed = norm(stream)
        return self.projection(normed[:, 0] if pooler is None else pooler(normed))

    def units(self, inputs: Inputs, stream: Tensor) -> Units:
        height, width = inputs.values.shape[-2:]
        rows = height // self.patch
        columns = width // self.patch
        return Grid(rows, columns, stream.shape[1] - rows * columns)


class PooledTextTower(FirstTokenTower):
    """A text tower with the pooled output of its encoder and a projection."""

    def head(self, stream: Tensor, extra: dict[str, Tensor]) -> Embedding:
        return self.projection(self.model.pooler(stream))


class CLIPText(EndTokenTower):
    """The text tower of CLIP as the encoder of captions."""

    model = part("root.text_model", lambda model: getattr(model, "text_model", model))


class VisionTextDualEncoder(DualEncoder, name="vision_text_dual_encoder"):
    """``VisionTextDualEncoderModel`` of Hugging Face Transformers: an image tower and a text tower of other models.

    Image towers are those of CLIP and SigLIP, and ViTs with a class token. Text towers are BERT, RoBERTa and CLIP's.
    """

    auto_class = "VisionTextDualEncoderModel"

    @classmethod
    def towers(cls, module: nn.Module, request: LoadRequest) -> tuple[ImageTower, TextTower]:
        vision = encoder_of_images(module)
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
