"""TIPSv2 from Hugging Face Transformers.

Its processor does not normalize pixels, so a blank image is gray. Register tokens follow the class token, captions are
averaged, and neither tower has a projection.
"""

from functools import cached_property
from typing import Any

from torch import Tensor, nn

from nibt.models._heads import ClassTokenTower, DualEncoder
from nibt.models._hugging_face import HuggingFaceTextTower
from nibt.models._tower import part
from nibt.models.base import Inputs
from nibt.types import Embedding


class TIPSv2ImageTower(ClassTokenTower):
    """The image tower of TIPSv2, which interpolates its positions without an option."""

    norm = part("vision.layernorm")

    projection = nn.Identity()

    def size_options(self, inputs: Inputs) -> dict[str, bool]:
        return {}

    @cached_property
    def prefix(self) -> int:  # pyright: ignore
        return 1 + self.vision_config.num_register_tokens


class TIPSv2TextTower(HuggingFaceTextTower):
    """The text tower of TIPSv2, whose embedding is the mean over the tokens of a caption."""

    def head_inputs(self, inputs: Inputs) -> dict[str, Tensor]:
        return {"mask": inputs.extra["attention_mask"]}

    def head(self, stream: Tensor, extra: dict[str, Tensor]) -> Embedding:
        kept: Any = self.model.final_layer_norm(stream) * extra["mask"][..., None]
        return kept.sum(1) / (extra["mask"].sum(1, keepdim=True) + self.config.pooling_epsilon)


class TIPSv2(DualEncoder):
    """The checkpoints of ``Tipsv2Model``."""

    model_types = ("tipsv2",)
    class_names = ("Tipsv2Model",)
    image_tower = TIPSv2ImageTower
    text_tower = TIPSv2TextTower
