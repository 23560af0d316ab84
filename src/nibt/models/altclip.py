"""AltCLIP from Hugging Face Transformers: CLIP's image tower with XLM-R (Chen et al., 2022)."""

from functools import cached_property

from torch import nn

from nibt.models._heads import ClassTokenTower, DualEncoder, FirstTokenTower
from nibt.models._hugging_face import encoder_blocks
from nibt.models._tower import part


class AltCLIPTextTower(FirstTokenTower):
    """The text tower of AltCLIP, with a norm and a linear map before the projection."""

    @cached_property
    def blocks(self) -> list[nn.Module]:
        return encoder_blocks(self.model.roberta)

    embeddings = part("model.roberta.embeddings")

    @cached_property
    def norm(self) -> nn.Module:
        return nn.Sequential(self.model.pre_LN, self.model.transformation)


class AltCLIP(DualEncoder):
    """The checkpoints of ``AltCLIPModel``."""

    model_types = ("altclip",)
    class_names = ("AltCLIPModel",)
    image_tower = ClassTokenTower
    text_tower = AltCLIPTextTower


PLUGIN = AltCLIP
