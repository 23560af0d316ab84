"""The contract of a family of checkpoints, and the family of a checkpoint or of a model in memory."""

from abc import ABC, abstractmethod
from collections.abc import Iterable, Sequence
from typing import ClassVar

from torch import nn

from nibt.errors import BadOption, CannotLoad
from nibt.models._classes import declared, family_of_generator, shipped
from nibt.models._failures import REFERENCE, WritesText
from nibt.models._request import LoadRequest, ScoreChoice
from nibt.models._text_tower import TextTower
from nibt.models.base import ImageTower
from nibt.records import is_finite
from nibt.registry import Plugin
from nibt.targets.base import CosineSimilarity, Similarity


def class_names(module: nn.Module) -> set[str]:
    """Return the names of the class of a module and of its base classes.

    Classes of sentence-transformers are left out, since they have the names of the classes that they wrap.
    """
    classes = type(module).__mro__
    return {base.__name__ for base in classes if not base.__module__.startswith("sentence_transformers")}


class Family(Plugin, ABC):
    """Base class of model families, which load models of some classes and cut them into towers."""

    model_types: ClassVar[tuple[str, ...]] = ()
    """The values of ``model_type`` in Hugging Face configs that this family loads; those of nibt are in a table."""
    class_names: ClassVar[tuple[str, ...]] = ()
    """The class names of models in memory that this family supports."""
    needs_processor: ClassVar[bool] = False
    """Whether a model in memory must come with its processor and its tokenizer."""
    reads_text: ClassVar[bool] = True
    """Whether texts are any captions, for which there is a tokenizer; those of classifiers are names of classes."""

    def __init_subclass__(cls, name: str = "", **options: object) -> None:
        super().__init_subclass__(name, **options)
        if cls.__module__.startswith("nibt.") and cls.name in shipped():
            row = shipped()[cls.name]
            cls.model_types = row.types
            cls.class_names = row.classes

    @staticmethod
    @abstractmethod
    def load(source: str, request: LoadRequest) -> tuple[nn.Module, LoadRequest]:
        """Load a checkpoint and its processors from a folder or a hub."""

    has_logits: ClassVar[bool] = True
    """Whether models have a scale that turns similarities into logits."""

    @staticmethod
    def resolved(source: str, request: LoadRequest) -> LoadRequest:
        """Return the request with what the family adds to it, such as the prompts of a vision-language model."""
        if request.embedding:
            raise BadOption(f"{sorted(request.embedding)[0]} is for embedders on vision-language models: leave it out")
        return request

    unread: ClassVar[str] = ""
    """A pattern of weights that no result of the family depends on, such as heads that detect objects."""

    @staticmethod
    @abstractmethod
    def towers(module: nn.Module, request: LoadRequest) -> tuple[ImageTower, TextTower]:
        """Return the two towers of a model."""

    similarity: ClassVar[Similarity] = CosineSimilarity()
    """How embeddings are compared, seen from the image side."""

    @classmethod
    def compares(cls, module: nn.Module, request: LoadRequest, image: ImageTower) -> Similarity:
        """Return how a model compares embeddings, seen from the image side."""
        return cls.similarity

    @classmethod
    def scale_and_bias(cls, module: nn.Module) -> tuple[float, float]:
        """Return the scale and the bias that turn a similarity into the model's logit: 1 and 0 without logits."""
        if not cls.has_logits:
            return 1.0, 0.0
        bias = getattr(module, "logit_bias", None)
        scale = module.logit_scale.detach().float().exp().item()  # pyright: ignore
        return scale, 0.0 if bias is None else bias.detach().float().item()

    @classmethod
    def finite_scale_and_bias(cls, module: nn.Module) -> tuple[float, float]:
        """Return the scale and the bias of a model, and check that they are finite numbers."""
        scale, bias = cls.scale_and_bias(module)
        if not is_finite(scale) or not is_finite(bias):
            raise CannotLoad(
                f"the scale and the bias of a {type(module).__name__} must be finite numbers (got {scale!r:.50} and "
                f"{bias!r:.50}): correct the weights of the model, or scale_and_bias of {cls.__name__}"
            )
        return scale, bias


FUSED = "fused"
"""The family of models that read an image and a text in one network."""


def family_of_score(name: str, family: str, classes: Iterable[str], score: ScoreChoice | None) -> str:
    """Return the family that reads the score that is asked for of a model of these classes, or its own one."""
    if score is None:
        return family
    if score.kind == "contrastive" and family != FUSED:
        return family

    from nibt.models.fused import check_score  # which other scores do not need

    check_score(name, classes, score)
    return FUSED


_REFUSED = {
    "clap": ("ClapModel", "it compares sounds with captions, and nibt explains images and captions"),
    "xclip": ("XCLIPModel", "it compares videos with captions, and the embedding of a caption depends on the video"),
}


def check_no_generator(name: str, classes: Iterable[str]) -> None:
    """Check that a model that no family takes does not write text."""
    if family_of_generator(classes) is not None:
        raise WritesText(
            f"{name!r} writes text about images, and does not compare them with captions: use nibt answer, "
            "explain_answer, or nibt batch with a column of prompts and none of captions"
        )


def family_of_type(name: str, model_type: str | None, classes: Sequence[str] = ()) -> str:
    """Return the name of the family of a ``model_type``; ``classes`` say what a model without a family is."""
    supported = {key: family for family, row in declared().items() for key in row.types}
    if model_type in supported:
        return supported[model_type]

    # a class of a task, such as ViTForImageClassification, shares its model_type with classes that lack its head
    of_task = {key: family for family, row in declared().items() if not row.types for key in row.classes}
    if named := [of_task[key] for key in classes if key in of_task]:
        return named[0]

    problem = f"{name!r} has the model_type {model_type!r}, which is not supported"
    if model_type in _REFUSED:
        raise CannotLoad(f"{problem}: {_REFUSED[model_type][1]}")

    from nibt.models._kinds import WRITES, kind_of, writes  # which only refusals need

    kind = kind_of(classes, model_type)
    if kind is None:
        raise CannotLoad(f"{problem}: {REFERENCE}")
    if kind == WRITES:  # of a class that no family takes
        raise WritesText(f"{problem}: {writes(classes, model_type)}")
    raise CannotLoad(f"{problem}: it {kind.does}; {kind.instead}")


_DEPTH_OF_CLASSIFIERS = 2  # the dots in torchvision.models.resnet; detectors are deeper


def family_of_module(module: nn.Module) -> str | None:
    """Return the name of the family of a module; None if there is none."""
    listed = {name: family for family, row in declared().items() for name in row.classes}
    names = (base.__name__ for base in type(module).__mro__ if base.__name__ in class_names(module))
    # the nearest class: some extend another's
    return next((listed[name] for name in names if name in listed), None) or _family_of_package(module)


def _family_of_package(module: nn.Module) -> str | None:
    """Return the family of a whole classifier of timm or torchvision, whose classes have names that others have, too.

    timm's have a head and say how many classes they have; torchvision lists its own.
    """
    for base in type(module).__mro__:
        package = base.__module__
        if package.startswith("timm.models."):
            is_whole = hasattr(module, "forward_head") and getattr(module, "num_classes", 0)
            return "timm_classifier" if is_whole else None
        if package.startswith("torchvision.models.") and package.count(".") == _DEPTH_OF_CLASSIFIERS:
            from torchvision import models

            return "torchvision_classifier" if hasattr(models, base.__name__) else None

    return None


def refusal(module: nn.Module) -> str:
    """Return why a module of a known class is refused; an empty text for other classes."""
    names = class_names(module)
    return next((reason for name, reason in _REFUSED.values() if name in names), "")


def known_classes() -> str:
    """Return the class names of all families."""
    return ", ".join(name for row in declared().values() for name in row.classes)
