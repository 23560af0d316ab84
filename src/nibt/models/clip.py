"""CLIP from Hugging Face Transformers, with or without PEFT adapters (Radford et al., 2021)."""

from nibt.models._heads import ClassTokenTower, DualEncoder, EndTokenTower


class CLIPImageTower(ClassTokenTower):
    """The image tower of CLIP."""


class CLIPTextTower(EndTokenTower):
    """The text tower of CLIP."""


class CLIP(DualEncoder):
    """The checkpoints of ``CLIPModel``."""

    model_types = ("clip",)
    class_names = ("CLIPModel",)
    auto_class = "CLIPModel"
    image_tower = CLIPImageTower
    text_tower = CLIPTextTower


PLUGIN = CLIP
