"""The contract of writers: how the generators of a family are loaded, and the tower that reads their answers.

The file ``writers/blip.py`` has the writers of the families ``blip`` and ``blip_2``. A family knows no writer.
"""

from abc import ABC
from collections.abc import Callable
from typing import ClassVar

from torch import nn

from nibt.generators.answers import AnswerTower
from nibt.models._classes import shipped
from nibt.models._failures import WritesText
from nibt.models._family import Family
from nibt.models._hugging_face import load_generator_class, with_joint_processor
from nibt.models._request import LoadRequest
from nibt.models._text_tower import TextTower
from nibt.models.base import ImageTower
from nibt.registry import Plugin, find


class Writer(Plugin, ABC):
    """Base class of the writers of families. A writer has the name of its family."""

    joint_processor: ClassVar[bool] = True
    """Whether the processor prepares images and texts together."""
    unread: ClassVar[str] = ""
    """A pattern of weights that no answer depends on."""

    @classmethod
    def load(cls, source: str, request: LoadRequest) -> tuple[nn.Module, LoadRequest]:
        """Load a generator and its processor from a folder."""
        if cls.joint_processor:
            request = with_joint_processor(source, request, "load_generator")
        return load_generator_class(shipped()[cls.name].writes, source, request, cls.unread)

    tower: ClassVar[Callable[[nn.Module, LoadRequest], AnswerTower]]
    """Returns the tower of a generator."""


class OnlyGenerators(Family):
    """Base class of families whose models only write."""

    needs_processor = True

    @classmethod
    def load(cls, source: str, request: LoadRequest) -> tuple[nn.Module, LoadRequest]:
        return writer_of(cls.name).load(source, request)

    @staticmethod
    def towers(module: nn.Module, request: LoadRequest) -> tuple[ImageTower, TextTower]:
        raise WritesText("it writes text about images, and does not compare them with captions: use nibt answer")


def writer_of(family: str) -> type[Writer]:
    """Return the writer of a family."""
    return find("writers", family)
