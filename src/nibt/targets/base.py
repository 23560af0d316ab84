"""The contract of targets: a target computes the number that is explained from the embeddings of both sides.

A target depends on the other side only through the embeddings in its ``Score``: ``other``, and ``others``, which are
further embeddings of the other side: captions for an image, images for a caption.
"""

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float
from torch import Tensor

from nibt.errors import BadOption
from nibt.io import unicode_text
from nibt.registry import Plugin
from nibt.types import Embedding, OtherEmbedding, PerExample

Others = Float[Tensor, "other *item"]
"""Embeddings of several items: (other, dim), or (other, vector, dim)."""


def check_template(name: str, template: object, place: str = "caption") -> None:
    """Check that a text has ``{}`` once, in place of a caption or a label, and no other brace."""
    rest = template.replace("{}", "", 1) if isinstance(template, str) else "{"
    if "{}" not in str(template) or "{" in rest or "}" in rest:
        raise BadOption(
            f"{name} must be a text that contains {{}} once, for the {place}, and no other brace "
            f"(got {template!r:.100})"
        )

    unicode_text(name, template)


def fill_template(template: str, text: str) -> str:
    """Put a caption or a label, which may have braces itself, into a template.

    >>> fill_template("a photo of {}", "a {cat}")
    'a photo of a {cat}'
    """
    return template.replace("{}", text)


class Similarity(ABC):
    """A similarity of two embeddings, seen from one of the two sides, whose items have so many dimensions."""

    name: ClassVar[str]
    item_ndim: ClassVar[int]
    target: ClassVar[str] = "cosine"
    """The target that is the similarity itself."""
    fuses: ClassVar[bool] = False
    """Whether one network reads both sides, so that an embedding says nothing without the other side."""
    has_softmax: ClassVar[bool] = True
    """Whether a softmax over the similarities of candidates means something, as that of logits does."""

    @abstractmethod
    def __call__(self, embedding: Embedding, partner: OtherEmbedding) -> PerExample:
        """Compare embeddings with those of the other side, with broadcasting over the dimensions before the item's."""

    @abstractmethod
    def to_each(self, embedding: Embedding, others: Others) -> Float[Tensor, "*batch other"]:
        """Compare embeddings with each of several embeddings of the other side."""

    def chosen_box(self, image: Embedding, text: OtherEmbedding) -> tuple[float, float, float, float] | None:
        """Return the box of the score of a pair, (left, top, right, bottom) in pixels; None if it is of no box."""
        return None

    def probabilities(self, logits: Float[Tensor, " candidate"]) -> Float[Tensor, " candidate"]:
        """Return the probabilities of ranked candidates by their logits."""
        return logits.softmax(0)

    @abstractmethod
    def swapped(self) -> "Similarity":
        """Return the same similarity, seen from the other side."""


class CosineSimilarity(Similarity):
    """The cosine of two vectors, in [-1, 1]."""

    name: ClassVar[str] = "cosine"
    item_ndim: ClassVar[int] = 1

    def __call__(self, embedding: Embedding, partner: OtherEmbedding) -> PerExample:
        return (F.normalize(embedding, dim=-1) * F.normalize(partner, dim=-1)).sum(-1)

    def to_each(self, embedding: Embedding, others: Others) -> Float[Tensor, "*batch other"]:
        return F.normalize(embedding, dim=-1) @ F.normalize(others, dim=-1).T

    def swapped(self) -> "CosineSimilarity":
        return self


@dataclass(frozen=True)
class MaxSim(Similarity):
    """MaxSim of vectors, of which zeros are padding; ``own_is_query`` is whether this side is the query."""

    own_is_query: bool = False
    name: ClassVar[str] = "max_sim"
    item_ndim: ClassVar[int] = 2

    def __call__(self, embedding: Embedding, partner: OtherEmbedding) -> PerExample:
        """Compute MaxSim of sets of unit vectors: (..., vector, dim)."""
        query, document = (embedding, partner) if self.own_is_query else (partner, embedding)
        cosines = query @ document.mT

        # padding of a document must not win the maximum, and padding of a query adds nothing to the sum
        padding = document.detach().square().sum(-1) == 0
        if padding.any():
            cosines = cosines.masked_fill(padding[..., None, :], float("-inf"))
        largest = cosines.amax(-1)
        return largest.masked_fill(query.detach().square().sum(-1) == 0, 0.0).sum(-1)

    def to_each(self, embedding: Embedding, others: Others) -> Float[Tensor, "*batch other"]:
        return self(embedding.unsqueeze(-3), others)

    def swapped(self) -> "MaxSim":
        return MaxSim(not self.own_is_query)


@dataclass(frozen=True)
class ClassLogit(Similarity):
    """The logit of a class by a classifier: the product of all logits of an image with the unit vector of the class.

    Both sides have one vector per item, (1, class), since a logit is no cosine.
    """

    name: ClassVar[str] = "logit"
    item_ndim: ClassVar[int] = 2
    target: ClassVar[str] = "logit"

    def __call__(self, embedding: Embedding, partner: OtherEmbedding) -> PerExample:
        return (embedding * partner).sum((-2, -1))

    def to_each(self, embedding: Embedding, others: Others) -> Float[Tensor, "*batch other"]:
        return embedding.squeeze(-2) @ others.squeeze(-2).T

    def swapped(self) -> "ClassLogit":
        return self

    @staticmethod
    def log_probability(logits: Embedding, logit: Tensor) -> Tensor:
        """Return the logarithm of the softmax of a logit over all classes: (..., batch), or (..., batch, class)."""
        normalizer = logits.squeeze(-2).logsumexp(-1)
        return logit - (normalizer if logit.ndim == normalizer.ndim else normalizer[..., None])


@dataclass(frozen=True)
class Score:
    """The number that is explained, as a function of the embeddings of one side.

    Attributes:
        target: The target.
        similarity: How the model compares the embeddings of both sides, seen from this side.
        scale: The logit scale of the model.
        bias: The logit bias of the model.
        others: Further embeddings of the other side, which the target compares with.
        other: The embeddings of the other side, with broadcasting, of type ``OtherEmbedding``; None as long as no pair
            is known.
        own: Which of ``others`` is the other side of each pair itself, which counts once.
        shipped_mean: The mean of unit embeddings that ships with an embedded model, in place of ``others``.
    """

    target: "Target"
    similarity: Similarity
    scale: float = 1.0
    bias: float = 0.0
    others: Others | None = None
    other: Any = None  # a target is called only with a pair, and need not ask for None
    own: Bool[Tensor, "batch other"] | None = None
    shipped_mean: Float[Tensor, " dim"] | None = None

    def __call__(self, embedding: Embedding) -> PerExample:
        """Compute numbers of shape (..., batch) from embeddings of any length and shape (..., batch, dim)."""
        return self.target(embedding, self)

    @property
    def lacks_others(self) -> bool:
        """Whether the target has nothing to compare with: no other embeddings, and no mean in place of them."""
        return self.others is None and self.shipped_mean is None

    def to_others(self, embedding: Embedding) -> Float[Tensor, "*batch other"]:
        """Compute the similarity with each of the others."""
        assert self.others is not None
        return self.similarity.to_each(embedding, self.others)

    def similarities(self, embedding: Embedding) -> Float[Tensor, "*batch label"]:
        """Compute the similarity with the other side and, after it, that with each of the others."""
        first = self.similarity(embedding, self.other)[..., None]
        if self.others is None:
            return first

        # the other side of the pair is the first already, so among the others it has no weight
        others = self.to_others(embedding)
        if self.own is not None:
            others = others.masked_fill(self.own.to(others.device), -torch.inf)
        return torch.cat([first, others], -1)


class Target(Plugin, ABC):
    """Base class of targets, the numbers that are explained: functions of the embeddings of one side of a pair."""

    others: ClassVar[Literal["none", "one", "some"]] = "none"
    """How many others the target needs. A side without them is explained with ``cosine``, which its result states."""

    averages: ClassVar[bool] = False
    """Whether the target takes means of embeddings, which sets of vectors do not have."""

    shipped_default: ClassVar[str] = ""
    """The tensor among the mean states of an embedded model that replaces missing others."""

    rewords: ClassVar[bool] = False
    """Whether a caption is replaced by several wordings, so that only the image side can be explained."""

    def __init_subclass__(cls, name: str = "", **options: object) -> None:
        super().__init_subclass__(name, **options)
        cls.rewords = cls.wordings is not Target.wordings

    @abstractmethod
    def __call__(self, embedding: Embedding, score: Score) -> PerExample:
        """Compute numbers of shape (..., batch) from embeddings of any length and shape (..., batch, dim)."""

    def wordings(self, caption: str) -> list[str]:
        """Return the captions whose mean embedding replaces that of this caption on the image side."""
        return [caption]
