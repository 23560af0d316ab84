"""The contrastive part of FLAVA from Hugging Face Transformers (Singh et al., 2022)."""

from nibt.models._heads import ClassTokenTower, DualEncoder, FirstTokenTower
from nibt.models._tower import part
from nibt.models.base import Inputs
from nibt.types import Embedding


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


class FLAVA(DualEncoder):
    """The checkpoints of ``FlavaModel`` and ``FlavaForPreTraining``."""

    model_types = ("flava",)
    class_names = ("FlavaModel", "FlavaForPreTraining")
    within = "flava"
    unread = r"^(image_codebook|itm_head|mim_head|mlm_head|mmm_image_head|mmm_text_head)\."
    image_tower = FLAVAImageTower
    text_tower = FLAVATextTower
