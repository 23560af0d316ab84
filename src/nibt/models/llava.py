"""Generators whose decoder reads image tokens: LLaVA, Gemma 3 (Liu et al., NeurIPS 2023, arXiv 2304.08485).

They write text about an image, and do not embed captions. Layers are those of the decoder.
"""

from torch import nn

from nibt.errors import CannotLoad
from nibt.models._request import Request
from nibt.models._vision_language.generators import DecoderFamily
from nibt.models.base import ImageTower, TextTower


class Llava(DecoderFamily):
    """Vision-language models that only generate text."""

    generator_classes = ("LlavaForConditionalGeneration", "Gemma3ForConditionalGeneration")

    @staticmethod
    def load(source: str, request: Request) -> tuple[nn.Module, Request]:
        return Llava.load_generator(source, request)

    @staticmethod
    def towers(module: nn.Module, request: Request) -> tuple[ImageTower, TextTower]:
        raise CannotLoad("it writes text about images, and does not compare them with captions: use nibt answer")


PLUGIN = Llava
