"""An image model and a text model in memory, given as a pair: CLIP's or MetaCLIP 2's classes ``...WithProjection``.

They have no logit scale, so logits have that of CLIP after training, 100.
"""

from dataclasses import dataclass
from functools import cached_property
from typing import Any

from torch import Tensor, nn

from nibt.errors import CannotLoad
from nibt.models._family import Family, class_names
from nibt.models._heads import ClassTokenTower, EndTokenTower
from nibt.models._request import Request
from nibt.models.base import ImageTower, TextTower
from nibt.records import JsonObject

_SCALE = 100.0


@dataclass(frozen=True)
class Configurations:
    """The configurations of both models, by the names that CLIP has for them."""

    vision_config: Any
    text_config: Any

    def to_dict(self) -> JsonObject:
        """Return both as plain data."""
        return {"vision_config": self.vision_config.to_dict(), "text_config": self.text_config.to_dict()}


class ProjectionPair(nn.Module):
    """``CLIPVisionModelWithProjection`` and ``CLIPTextModelWithProjection``, or those of MetaCLIP 2."""

    def __init__(self, vision: Any, text: Any) -> None:
        super().__init__()
        self.vision, self.text = vision, text
        self.config = Configurations(vision.config, text.config)
        self.training = vision.training or text.training

    @property
    def vision_model(self) -> Any:
        """The encoder of images."""
        return self.vision.vision_model

    @property
    def text_model(self) -> Any:
        """The encoder of captions."""
        return self.text.text_model

    @property
    def visual_projection(self) -> nn.Module:
        """The map of images to the joint space."""
        return self.vision.visual_projection

    @property
    def text_projection(self) -> nn.Module:
        """The map of captions to the joint space."""
        return self.text.text_projection

    def get_image_features(self, pixel_values: Tensor, **options: Any) -> Tensor:
        """Compute the embeddings of images."""
        return self.vision(pixel_values, **options).image_embeds

    def get_text_features(self, input_ids: Tensor, **options: Any) -> Tensor:
        """Compute the embeddings of captions."""
        return self.text(input_ids, **options).text_embeds


class PairTextTower(EndTokenTower):
    """The text tower of a pair; only that of CLIP has the old rule for an end token with the id 2."""

    @cached_property
    def end(self) -> int | None:
        is_clip = "CLIPTextModelWithProjection" in class_names(self.root.text)
        return super().end if is_clip else self.model.eos_token_id


class PairFamily(Family):
    """A tuple of an image model and a text model in memory."""

    class_names = ("ProjectionPair",)
    needs_processor = True

    @staticmethod
    def load(source: str, request: Request) -> tuple[nn.Module, Request]:
        raise CannotLoad("an image model and a text model are loaded by Transformers, and given as a pair")

    @staticmethod
    def towers(module: Any, request: Request) -> tuple[ImageTower, TextTower]:
        return ClassTokenTower(module, request), PairTextTower(module, request)

    @staticmethod
    def scale_and_bias(module: nn.Module) -> tuple[float, float]:
        return _SCALE, 0.0
