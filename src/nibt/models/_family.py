"""The contract of a family of checkpoints: how it is recognized and loaded, and its two towers."""

from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Any, ClassVar

from torch import nn

from nibt.errors import BadOption
from nibt.models._answers import AnswerTower
from nibt.models._failures import WritesText
from nibt.models._hugging_face import load_generator_class, with_joint_processor
from nibt.models._request import Request
from nibt.models.base import ImageTower, TextTower
from nibt.registry import Plugin
from nibt.targets.base import CosineSimilarity, Similarity


def class_names(module: Any) -> set[str]:
    """Return the names of the class of a module and of its base classes.

    Classes of sentence-transformers are left out, since they have the names of the classes that they wrap.
    """
    classes = type(module).__mro__
    return {base.__name__ for base in classes if not base.__module__.startswith("sentence_transformers")}


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

    has_logits: ClassVar[bool] = True
    """Whether models have a scale that turns similarities into logits."""

    @staticmethod
    def resolved(source: str, request: Request) -> Request:
        """Return the request with what the family adds to it, such as the prompts of a vision-language model."""
        if request.embedding:
            raise BadOption(f"{sorted(request.embedding)[0]} is for embedders on vision-language models: leave it out")
        return request

    @classmethod
    def load_generator(cls, source: str, request: Request) -> tuple[nn.Module, Request]:
        """Load a generator and its processor from a folder."""
        if cls.joint_processor:
            request = with_joint_processor(source, request)
        return load_generator_class(cls.generator_classes, source, request, cls.unread)

    unread: ClassVar[str] = ""
    """A pattern of weights that no result of the family depends on, such as heads that detect objects."""
    joint_processor: ClassVar[bool] = True
    """Whether the processor of its generators prepares images and texts together."""
    generator_classes: ClassVar[tuple[str, ...]] = ()
    """The class names of models that write text about an image."""
    answer_tower: ClassVar[Callable[[Any, Request], AnswerTower]]
    """Returns the tower of a generator, if the family has ``generator_classes``."""

    @staticmethod
    @abstractmethod
    def towers(module: nn.Module, request: Request) -> tuple[ImageTower, TextTower]:
        """Return the two towers of a model."""

    similarity: ClassVar[Similarity] = CosineSimilarity()
    """How embeddings are compared, seen from the image side."""

    @classmethod
    def scale_and_bias(cls, module: nn.Module) -> tuple[float, float]:
        """Return the scale and the bias that turn a similarity into the model's logit: 1 and 0 without logits."""
        if not cls.has_logits:
            return 1.0, 0.0
        bias = getattr(module, "logit_bias", None)
        scale = module.logit_scale.detach().float().exp().item()  # pyright: ignore
        return scale, 0.0 if bias is None else bias.detach().float().item()


class OnlyGenerators(Family):
    """Base class of families whose models only write."""

    needs_processor = True

    @classmethod
    def load(cls, source: str, request: Request) -> tuple[nn.Module, Request]:
        return cls.load_generator(source, request)

    @staticmethod
    def towers(module: nn.Module, request: Request) -> tuple[ImageTower, TextTower]:
        raise WritesText("it writes text about images, and does not compare them with captions: use nibt answer")
