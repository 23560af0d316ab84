"""An image model and a text model in memory, given as a pair: CLIP's or MetaCLIP 2's classes ``...WithProjection``.

They have no logit scale, so logits have that of CLIP after training, 100.
"""

from functools import cached_property
from typing import Any

from torch import nn

from nibt.errors import CannotLoad
from nibt.models._family import Family, class_names
from nibt.models._heads import ClassTokenTower, EndTokenTower
from nibt.models._request import Request
from nibt.models.base import ImageTower, TextTower

_SCALE = 100.0


class PairTextTower(EndTokenTower):
    """The text tower of a pair; only that of CLIP has the old rule for an end token with the id 2."""

    @cached_property
    def end(self) -> int | None:
        is_clip = "CLIPTextModelWithProjection" in class_names(self.root.text)
        return super().end if is_clip else self.model.eos_token_id


class PairFamily(Family):
    """A tuple of an image model and a text model in memory."""

    class_names = ("ProjectionPair",)
    needs_processor = True

    @staticmethod
    def load(source: str, request: Request) -> tuple[nn.Module, Request]:
        raise CannotLoad("an image model and a text model are loaded by Transformers, and given as a pair")

    @staticmethod
    def towers(module: Any, request: Request) -> tuple[ImageTower, TextTower]:
        return ClassTokenTower(module, request), PairTextTower(module, request)

    @staticmethod
    def scale_and_bias(module: nn.Module) -> tuple[float, float]:
        return _SCALE, 0.0


PLUGIN = PairFamily
