"""CoCa of OpenCLIP, which writes captions."""

from dataclasses import replace

from torch import nn

from nibt.generators.answers import AnswerTower
from nibt.generators.base import Writer
from nibt.generators.coca import CoCaAnswers
from nibt.models._request import LoadRequest
from nibt.models.open_clip import OpenCLIP, own_tokenizer


class OpenCLIPWriter(Writer, name="open_clip"):
    """CoCa, which is loaded as all models of OpenCLIP are."""

    @classmethod
    def load(cls, source: str, request: LoadRequest) -> tuple[nn.Module, LoadRequest]:
        return OpenCLIP.load(source, request)

    @staticmethod
    def tower(module: nn.Module, request: LoadRequest) -> AnswerTower:
        return CoCaAnswers(module, replace(request, tokenizer=request.tokenizer or own_tokenizer(module)))
