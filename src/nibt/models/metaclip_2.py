"""MetaCLIP 2 from Hugging Face Transformers (Chuang et al., 2025)."""

from nibt.models._heads import ClassTokenTower, DualEncoder, EndTokenTower
from nibt.models._tower import part


class MetaCLIP2TextTower(EndTokenTower):
    """The text tower of MetaCLIP 2, whose end token has the id of its configuration, even if that is 2."""

    end = part("model.eos_token_id")


class MetaCLIP2(DualEncoder):
    """The checkpoints of ``MetaClip2Model``."""

    model_types = ("metaclip_2",)
    class_names = ("MetaClip2Model",)
    image_tower = ClassTokenTower
    text_tower = MetaCLIP2TextTower


PLUGIN = MetaCLIP2
