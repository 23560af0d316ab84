"""An image model and a text model with their projections, as one module with the parts that CLIP has."""

from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn

from nibt.records import JsonObject


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
