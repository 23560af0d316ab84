"""Chinese CLIP from Hugging Face Transformers (Yang et al., 2022)."""

from nibt.models._heads import ClassTokenTower, DualEncoder, FirstTokenTower


class ChineseCLIP(DualEncoder):
    """The checkpoints of ``ChineseCLIPModel``."""

    model_types = ("chinese_clip",)
    class_names = ("ChineseCLIPModel",)
    image_tower = ClassTokenTower
    text_tower = FirstTokenTower


PLUGIN = ChineseCLIP
