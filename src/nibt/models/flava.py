"""The contrastive part of FLAVA from Hugging Face Transformers (Singh et al., 2022)."""

from functools import cached_property
from typing import Any

from torch import nn

from nibt.models._heads import ClassTokenTower, DualEncoder, FirstTokenTower
from nibt.models.base import Inputs
from nibt.types import Embedding


class FLAVAImageTower(ClassTokenTower):
    """The image tower of FLAVA. The model projects all tokens, of which the class token is the embedding."""

    @cached_property
    def vision(self) -> Any:
        return self.root.image_model

    @cached_property
    def vision_config(self) -> Any:
        return self.root.config.image_config

    @cached_property
    def norm(self) -> nn.Module:
        return self.vision.layernorm

    @cached_property
    def projection(self) -> nn.Module:
        return self.root.image_projection

    def run(self, inputs: Inputs) -> Embedding:
        return super().run(inputs)[:, 0]


class FLAVATextTower(FirstTokenTower):
    """The text tower of FLAVA."""

    @cached_property
    def norm(self) -> nn.Module:
        return self.model.layernorm

    def run(self, inputs: Inputs) -> Embedding:
        return super().run(inputs)[:, 0]


class FLAVA(DualEncoder):
    """The checkpoints of ``FlavaModel`` and ``FlavaForPreTraining``."""

    model_types = ("flava",)
    class_names = ("FlavaModel", "FlavaForPreTraining")
    within = "flava"
    image_tower = FLAVAImageTower
    text_tower = FLAVATextTower


PLUGIN = FLAVA
