"""Targets: the number that is explained, computed from the similarity of the embeddings of both sides."""

from dataclasses import dataclass

import torch.nn.functional as F

from nibt.targets.base import ClassLogit, Score, Target, check_template, fill_template
from nibt.types import Embedding, PerExample


@dataclass(frozen=True)
class Cosine(Target, name="cosine"):
    """The cosine of the embeddings of both sides, in [-1, 1].

    For models with late interaction, which embed each token, it is MaxSim. Classifiers have no cosine: their target is
    ``logit``.
    """

    def __call__(self, embedding: Embedding, score: Score) -> PerExample:
        return score.similarity(embedding, score.other)


@dataclass(frozen=True)
class Logit(Target, name="logit"):
    """The logit of the model: its scale times the cosine, plus its bias, which SigLIP has.

    For classifiers, it is the logit of a class, and the default target.
    """

    def __call__(self, embedding: Embedding, score: Score) -> PerExample:
        return score.scale * score.similarity(embedding, score.other) + score.bias


@dataclass(frozen=True)
class PairScore(Target, name="score"):
    """The score that a model gives an image and a text which it reads in one network, and its default target.

    It is the logit, or the log-odds, of a matching head, the probability of a box, or the mean logit of a mask.
    """

    def __call__(self, embedding: Embedding, score: Score) -> PerExample:
        return score.similarity(embedding, score.other)


@dataclass(frozen=True)
class Softmax(Target, name="softmax"):
    """The softmax probability of the pair among others of the other side, such as further captions of an image.

    For classifiers, it is the probability of a class among all classes of the model, and nothing else is compared.
    """

    others = "some"

    def __call__(self, embedding: Embedding, score: Score) -> PerExample:
        if isinstance(score.similarity, ClassLogit) and score.others is None:
            logit = score.similarity(embedding, score.other)
            return score.similarity.log_probability(embedding, logit).exp()
        return (score.scale * score.similarities(embedding)).softmax(-1)[..., 0]


@dataclass(frozen=True)
class Difference(Target, name="difference"):
    """The cosine with the other side minus the cosine with one alternative to it.

    It explains why a caption matches the image better than a second caption does, or an image than a second image.
    """

    others = "one"

    def __call__(self, embedding: Embedding, score: Score) -> PerExample:
        return score.similarity(embedding, score.other) - score.to_others(embedding)[..., 0]


@dataclass(frozen=True)
class Centered(Target, name="centered"):
    """The cosine with the other side's unit embedding minus the mean of a set of unit embeddings.

    Embeddings of CLIP-like models lie in a narrow cone, so most of a cosine is common to all pairs. Centering leaves
    the part that is specific to this caption or image.
    """

    others = "some"
    averages = True
    shipped_default = "centre"

    def __call__(self, embedding: Embedding, score: Score) -> PerExample:
        assert score.other is not None
        mean = score.shipped_mean if score.others is None else F.normalize(score.others, dim=-1).mean(0)
        assert mean is not None
        return score.similarity(embedding, F.normalize(score.other, dim=-1) - mean)


@dataclass(frozen=True)
class Ensemble(Target, name="ensemble"):
    """The cosine with the mean embedding of several wordings of the caption (Radford et al., 2021).

    The text side is explained by the caption's own cosine.

    Args:
        templates: The wordings, each with ``{}`` in place of the caption.
    """

    averages = True

    templates: tuple[str, ...] = ("{}", "a photo of {}", "a picture of {}", "a close-up photo of {}", "{} in a scene")

    def __post_init__(self) -> None:
        for template in self.templates:
            check_template("a template", template)

    def __call__(self, embedding: Embedding, score: Score) -> PerExample:
        # on the image side, the other embedding is already the mean of those of the wordings
        return score.similarity(embedding, score.other)

    def wordings(self, caption: str) -> list[str]:
        return [fill_template(template, caption) for template in self.templates]
