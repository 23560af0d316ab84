"""BLIP from Hugging Face Transformers: the contrastive part of ``BlipForImageTextRetrieval`` (Li et al., 2022).

Its score is the cosine, as with ``use_itm_head=False``: the model has no logit scale. The matching head reads both
inputs together, so it is no dual encoder.
"""

from typing import Any

from torch import nn

from nibt.models._heads import ClassTokenTower, DualEncoder, FirstTokenTower
from nibt.models.base import Inputs
from nibt.types import Embedding


class BLIPImageTower(ClassTokenTower):
    """The image tower of BLIP."""

    @property
    def projection(self) -> nn.Module:
        return self.root.vision_proj

    def run(self, inputs: Inputs) -> Embedding:
        states = self.vision(inputs.values, **self.size_options(inputs)).last_hidden_state
        return self.projection(states[:, 0])


class BLIPTextTower(FirstTokenTower):
    """The text tower of BLIP."""

    @property
    def model(self) -> Any:
        return self.root.text_encoder

    @property
    def projection(self) -> nn.Module:
        return self.root.text_proj

    def run(self, inputs: Inputs) -> Embedding:
        states = self.model(inputs.values, **inputs.extra).last_hidden_state
        return self.projection(states[:, 0])


class BLIP(DualEncoder):
    """The checkpoints of ``BlipForImageTextRetrieval``."""

    model_types = ("blip",)
    class_names = ("BlipForImageTextRetrieval",)
    auto_class = "BlipForImageTextRetrieval"
    image_tower = BLIPImageTower
    text_tower = BLIPTextTower


PLUGIN = BLIP
