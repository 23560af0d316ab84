"""The dual encoder of CLIPSeg from Hugging Face Transformers, without its decoder (Lüddecke and Ecker, 2022)."""

from nibt.models._heads import ClassTokenTower, DualEncoder, EndTokenTower


class CLIPSeg(DualEncoder):
    """The checkpoints of ``CLIPSegModel`` and ``CLIPSegForImageSegmentation``."""

    model_types = ("clipseg",)
    class_names = ("CLIPSegModel", "CLIPSegForImageSegmentation")
    within = "clip"
    image_tower = ClassTokenTower
    text_tower = EndTokenTower


PLUGIN = CLIPSeg
