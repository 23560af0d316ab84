"""A word of an answer: what it took from the image, the prompt and the words before."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Annotated, Literal, TypeAlias

import numpy as np
from jaxtyping import Float
from pydantic import computed_field, model_validator
from torch import Tensor

from nibt.options import ClosedShare
from nibt.results.attribution import check_error
from nibt.results.base import Array, Serializable

HARDLY = 2.0
"""The change of the log-probability, in nats, below which the image hardly matters for a word.

On scenes, the gain is above it for nouns that the model saw, and below for those that it guessed
(``recipes/generator/study.py``)."""
LIKELY = math.log(0.1)
"""The log-probability below which the model would hardly write a word, so that it cannot have guessed it."""
LEVEL = 0.05
"""How often a word at the limit of 2 nats is called guessed at most, and how often seen."""
_LEAST = 0.01  # the change to which a gap is compared at least


Judgment: TypeAlias = Literal["seen", "guessed", "cannot tell"]


def p_guessed(log_probability: float, others: Sequence[float]) -> float | None:
    """Return the p value of the test that the image adds 2 nats or more to a word; None with less than two others.

    Args:
        log_probability: The log-probability of the word with the image.
        others: Its log-probabilities with other images.
    """
    count = len(others)
    if count < 2:
        return None

    from scipy.special import stdtr  # which takes long to import

    gains = log_probability - np.array(others)
    distance = float(gains.mean()) - HARDLY
    error = float(gains.std(ddof=1)) / math.sqrt(count)
    if error == 0:
        return float(distance >= 0)
    return float(stdtr(count - 1, distance / error))


def judgment(log_probability: float, others: Sequence[float]) -> Judgment:
    """Return whether a word was seen or guessed, see ``AnswerWord.judgment``."""
    p_value = p_guessed(log_probability, others)
    if p_value is None:
        return "cannot tell"
    if p_value <= LEVEL and log_probability >= LIKELY:
        return "guessed"
    return "seen" if p_value >= 1 - LEVEL else "cannot tell"


@dataclass(frozen=True, eq=False)
class WordErrors(Serializable):
    """The half-widths of the 95 % intervals of the scores of a word, which are estimated from random draws.

    Attributes:
        grid: Those of the patches, rows x columns.
        prompt: Those of the words of the prompt.
        earlier: Those of the words of the answer before it.
    """

    grid: Annotated[Float[Tensor, "row column"], Array(2)]
    prompt: Annotated[Float[Tensor, " word"], Array(1)]
    earlier: Annotated[Float[Tensor, " earlier"], Array(1)]

    @classmethod
    def known(
        cls, grid: Float[Tensor, "row column"], prompt: Float[Tensor, " word"], earlier: Float[Tensor, " earlier"]
    ) -> "WordErrors | None":
        """Return the errors; None if there were too few draws to know them, for which they are infinite."""
        is_known = all(bool(errors.isfinite().all()) for errors in (grid, prompt, earlier))
        return cls(grid, prompt, earlier) if is_known else None


@dataclass(frozen=True, eq=False)
class AnswerWord(Serializable):
    """A word of an answer, with the scores of everything before it.

    Attributes:
        text: The word.
        tokens: The positions of its tokens in the answer.
        log_probability: The sum of the log-probabilities of its tokens, given everything before, in nats.
        with_blank_image: The same with a blank image.
        with_other_images: The mean of the same over other images; None if there are none.
        value: The value of the target.
        without: The value of the target without each source: with a blank image (``image``), without the prompt's
            words (``prompt``), and without the words before (``earlier``).
        at_blank: The value of the target without all these sources.
        grid: The scores of the patches, rows x columns.
        prompt: The score of each word of the prompt.
        earlier: The score of each word of the answer before it.
        special: The sum of the scores of all other tokens, which above layer 0 have already read the sources. They are
            in no map, so the gap has this sum, too.
        each_other_image: The log-probability with each of the other images; empty if there are none.
        error: The errors of the scores, if they are estimates from random draws; None for others, and with too few
            draws.
        reliance: For ``eagle``, how much the probability of the word depends on each source: the area under it while
            parts of the source are added, above its least value, in [0, 1]. Empty for other methods.
    """

    text: str
    tokens: tuple[int, ...]
    log_probability: float
    with_blank_image: float
    with_other_images: float | None
    value: float
    without: Mapping[str, float]
    at_blank: float
    grid: Annotated[Float[Tensor, "row column"], Array(2)]
    prompt: Annotated[Float[Tensor, " word"], Array(1)]
    earlier: Annotated[Float[Tensor, " earlier"], Array(1)]
    special: float
    each_other_image: tuple[float, ...] = ()
    error: WordErrors | None = None
    reliance: Mapping[str, ClosedShare] = field(default_factory=dict)

    @model_validator(mode="after")
    def _errors_fit(self) -> "AnswerWord":
        """Check what is read from a file; what nibt computes fits."""
        if self.error is not None:
            for name in ("grid", "prompt", "earlier"):
                check_error(f"error.{name}", getattr(self.error, name), getattr(self, name))
        return self

    @computed_field
    @property
    def shares(self) -> dict[str, float]:
        """What each source gave, with everything else in place; with ``gap``, they add up to value - at_blank.

        ``image``, ``prompt`` and ``earlier`` are the sums of the scores. ``joint`` is below 0 if the word needs several
        sources at once, above 0 if sources can replace each other, and 0 with one source. The scores of some methods do
        not add up (``AnswerExplanation.adds_up``): then compare only their order.
        """
        sums = {"image": self.grid, "prompt": self.prompt, "earlier": self.earlier}
        joint = self.value - self.at_blank - sum(self.changes.values())
        return {**{name: float(scores.sum()) for name, scores in sums.items()}, "joint": joint}

    @computed_field
    @property
    def gap(self) -> float:
        """The signed completeness gap: what the scores that are shown miss of the changes of the target."""
        return sum(self.gaps.values())

    @property
    def gaps(self) -> dict[str, float]:
        """The gap of each source: the change of the target without it, minus the sum of its scores."""
        return {source: change - self.shares[source] for source, change in self.changes.items()}

    @property
    def changes(self) -> dict[str, float]:
        """The change of the target with each source: ``value - without``."""
        return {source: self.value - without for source, without in self.without.items()}

    def misses(self, share: float) -> bool:
        """Return whether the image's scores, or all, miss more than a share of the change that they add up to."""
        of_image = self.gaps.get("image", 0.0), self.changes.get("image", 0.0)
        pairs = [(self.gap, self.value - self.at_blank), of_image]
        return any(abs(gap) > share * max(_LEAST, abs(change)) for gap, change in pairs)

    @computed_field
    @property
    def image_gain(self) -> float:
        """What the image adds to the log-probability, compared with other images; without them, with a blank image."""
        compared = self.with_blank_image if self.with_other_images is None else self.with_other_images
        return self.log_probability - compared

    @computed_field
    @property
    def p_guessed(self) -> float | None:
        """The p value of Student's test that the image adds 2 nats or more, on average over other images.

        If it is at most 0.05, the image adds less; if it is at least 0.95, the image adds more. None with less than two
        other images.
        """
        return p_guessed(self.log_probability, self.each_other_image)

    @computed_field
    @property
    def judgment(self) -> Judgment:
        """Whether the model took the word from the image (``seen``), or from the words around it (``guessed``).

        A word is guessed if ``p_guessed`` is at most 0.05, and if its probability is at least 0.1: the model would
        hardly write other words, as in an answer that is given. So a word to which the image adds 2 nats or more is
        called guessed in at most 5 % of cases, if the other images are a sample of those to compare with. A word is
        seen if ``p_guessed`` is at least 0.95. Otherwise, nibt cannot tell.
        """
        return judgment(self.log_probability, self.each_other_image)

    @computed_field
    @property
    def image_hardly_matters(self) -> bool:
        """Whether the word is judged to be guessed; with less than two other images, a change of less than 2 nats."""
        if self.p_guessed is None:
            return abs(self.image_gain) < HARDLY
        return self.judgment == "guessed"

    @property
    def image_contradicts(self) -> bool:
        """Whether the word is less likely with this image than with others, by 2 nats or more, and is not guessed."""
        return self.image_gain <= -HARDLY and not self.image_hardly_matters
