"""What families share whose generators have a decoder that reads the tokens of an image."""

from typing import Any

from torch import nn

from nibt.models._family import Family
from nibt.models._hugging_face import load_pretrained, with_joint_processor
from nibt.models._request import Request
from nibt.models._vision_language.answers import AnswerNetwork, DecoderAnswerTower
from nibt.models._vision_language.network import decoder_of
from nibt.models._vision_language.parts import layout_of


class DecoderFamily(Family):
    """Base class of families of generators with such a decoder."""

    has_logits = False

    @classmethod
    def load_generator(cls, source: str, request: Request) -> tuple[nn.Module, Request]:
        import transformers

        request = with_joint_processor(source, request)
        names = transformers.AutoConfig.from_pretrained(source, trust_remote_code=False).architectures or ["AutoModel"]
        # the class that was saved, since adapters name its parts; a class of the checkpoint's own code is not run
        known = {*cls.class_names, *cls.generator_classes}
        model_class = getattr(transformers, names[0] if names[0] in known else "AutoModel")
        return load_pretrained(model_class, source, request)

    @staticmethod
    def answer_tower(module: nn.Module, request: Request) -> DecoderAnswerTower:
        base: Any = module.model
        network = AnswerNetwork(module, base, decoder_of(base))
        return DecoderAnswerTower(network, layout_of(request.processor), request.processor)
