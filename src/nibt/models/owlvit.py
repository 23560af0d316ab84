"""The dual encoders of OWL-ViT and OWLv2 from Hugging Face Transformers (Minderer et al., 2022 and 2023).

They are explained without the heads that detect objects. The processor of OWLv2 pads images to a square.
"""

from typing import Any

from nibt.models._heads import ClassTokenTower, DualEncoder, EndTokenTower
from nibt.models._request import Request


class OWLImageTower(ClassTokenTower):
    """The image tower of OWL-ViT and OWLv2."""

    def __init__(self, root: Any, request: Request) -> None:
        self.square = bool(getattr(request.image_processor, "do_pad", False))
        self.any_size = not self.square  # the processor of OWLv2 cannot leave the size of an image as it is
        super().__init__(root, request)


class OWLTextTower(EndTokenTower):
    """The text tower of OWL-ViT and OWLv2, whose end token has the highest id of the caption."""

    end: Any = None


class OWL(DualEncoder):
    """The checkpoints of ``OwlViTModel``, ``Owlv2Model`` and their detectors."""

    model_types = ("owlvit", "owlv2")
    class_names = ("OwlViTModel", "Owlv2Model", "OwlViTForObjectDetection", "Owlv2ForObjectDetection")
    image_tower = OWLImageTower
    text_tower = OWLTextTower

    @classmethod
    def dual_encoder(cls, module: Any) -> Any:
        return getattr(module, "owlvit", getattr(module, "owlv2", module))


PLUGIN = OWL
