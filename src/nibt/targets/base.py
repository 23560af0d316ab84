"""A target turns the embeddings of the two sides into the one number that is explained.

A target knows its side only through the context: the other side's embedding ``there``, and ``others``, embeddings
of the other side's kind (captions for an image, images for a caption).
"""

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import ClassVar, Literal

import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from nibt.registry import Plugin
from nibt.types import Embedding, PerExample, There


@dataclass(frozen=True)
class TargetContext:
    """What a target may look at beside the two embeddings: the model's logit scale and bias, and others."""

    scale: float = 1.0
    bias: float = 0.0
    others: Float[Tensor, "other dim"] | None = None


class Target(Plugin, ABC):
    """The number as a function of this side's embedding, ``there`` and the context held still."""

    others: ClassVar[Literal["none", "one", "some"]] = "none"
    """How many others the target needs; a side that is given none is explained by cosine, and says so."""

    shipped_default: ClassVar[str] = ""
    """The tensor among an embedded model's mean states that is compared with if no others are given."""

    @property
    def rewords(self) -> bool:
        """Whether a caption stands for several wordings of itself, so that only the image side can be explained."""
        return type(self).wordings is not Target.wordings

    @abstractmethod
    def __call__(self, here: Embedding, there: There, context: TargetContext) -> PerExample:
        """Embeddings of any length, (..., batch, dim), to numbers, (..., batch)."""

    def wordings(self, caption: str) -> list[str]:
        """The captions whose mean embedding stands for this one, seen from the image."""
        return [caption]


def cosine(here: Embedding, there: There) -> PerExample:
    """The cosine of embeddings that broadcast against each other."""
    return (F.normalize(here, dim=-1) * F.normalize(there, dim=-1)).sum(-1)


def to_others(here: Embedding, context: TargetContext) -> Float[Tensor, "*batch other"]:
    """The cosine with each of the others."""
    assert context.others is not None
    return F.normalize(here, dim=-1) @ F.normalize(context.others, dim=-1).T
