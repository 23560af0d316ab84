"""The contract of a family of checkpoints: how it is recognized and loaded, and its two towers."""

from abc import ABC, abstractmethod
from typing import ClassVar

from torch import nn

from nibt.models._request import Request
from nibt.models.base import ImageTower, TextTower
from nibt.registry import Plugin


class Family(Plugin, ABC):
    """Base class of families of checkpoints."""

    model_types: ClassVar[tuple[str, ...]] = ()
    """The values of ``model_type`` in Hugging Face configs that this family loads."""
    class_names: ClassVar[tuple[str, ...]] = ()
    """The class names of models in memory that this family supports."""
    needs_processor: ClassVar[bool] = False
    """Whether a model in memory must come with its processor and its tokenizer."""

    @staticmethod
    @abstractmethod
    def load(source: str, request: Request) -> tuple[nn.Module, Request]:
        """Load a checkpoint and its processors from a folder or a hub."""

    @staticmethod
    @abstractmethod
    def towers(module: nn.Module, request: Request) -> tuple[ImageTower, TextTower]:
        """Return the two towers of a model."""

    @staticmethod
    def scale_and_bias(module: nn.Module) -> tuple[float, float]:
        """Return the scale and the bias that turn a cosine into the model's logit."""
        bias = getattr(module, "logit_bias", None)
        scale = module.logit_scale.detach().float().exp().item()  # pyright: ignore
        return scale, 0.0 if bias is None else bias.detach().float().item()
