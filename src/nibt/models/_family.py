"""What a family of checkpoints is: how it is known, how it is read, and the two towers that are made of it."""

from abc import ABC, abstractmethod
from typing import ClassVar

from torch import nn

from nibt.models._request import Request
from nibt.models.base import ImageTower, TextTower
from nibt.registry import Plugin


class Family(Plugin, ABC):
    """One kind of checkpoint: which it knows, how it is read, and the two towers made of it."""

    model_types: ClassVar[tuple[str, ...]] = ()
    """The ``model_type`` of the Hugging Face configs that this family reads."""
    class_names: ClassVar[tuple[str, ...]] = ()
    """The classes of models in memory that this family takes."""

    @staticmethod
    @abstractmethod
    def load(source: str, request: Request) -> tuple[nn.Module, Request]:
        """Read a checkpoint and its processors from a folder or a hub."""

    @staticmethod
    @abstractmethod
    def towers(module: nn.Module, request: Request) -> tuple[ImageTower, TextTower]:
        """The two towers of a model."""

    @staticmethod
    def scale_and_bias(module: nn.Module) -> tuple[float, float]:
        """What the model does to a cosine to make a logit of it."""
        bias = getattr(module, "logit_bias", None)
        scale = module.logit_scale.detach().float().exp().item()  # pyright: ignore
        return scale, 0.0 if bias is None else bias.detach().float().item()
