"""Vision-language models that write, of the architectures that embed, too."""

from torch import nn

from nibt.generators.base import Writer
from nibt.generators.decoder_answers import decoder_answer_tower
from nibt.models._request import LoadRequest
from nibt.models.vision_language import VisionLanguage


class VisionLanguageWriter(Writer, name="vision_language"):
    """Qwen-VL, Idefics 3, SmolVLM and PaliGemma as they write."""

    tower = decoder_answer_tower

    @classmethod
    def load(cls, source: str, request: LoadRequest) -> tuple[nn.Module, LoadRequest]:
        return VisionLanguage.load_saved(source, request)
