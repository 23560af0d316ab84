"""The decisive region of a map: a small part of an image that decides."""

from dataclasses import dataclass
from typing import Annotated, Literal

from jaxtyping import Bool
from pydantic import Field, computed_field
from torch import Tensor

from nibt.options import ClosedShare, Share
from nibt.results.attribution import percent
from nibt.results.base import Array, Serializable

REGIONS = ("keep", "change")
"""What the part does to a decision: alone, it keeps it; its removal changes it."""
CORRECT = "correct"
"""What the part does to an answer that is not written: its removal lets the model write it."""
Decision = Literal["first", "similarity", "difference", "probability", "log_probability", "written"]


@dataclass(frozen=True, eq=False)
class DecisiveRegion(Serializable):
    """A small part of a map that keeps a decision of the model, or whose removal changes it, or corrects an answer.

    Attributes:
        region: ``keep`` if the part alone keeps the decision, ``change`` if the image without the part changes it,
            ``correct`` if the model writes the explained answer for the image without the part.
        decision: ``first``: the explained caption, image or word is ahead of those that it is compared with.
            ``similarity``, ``difference``, ``probability``, ``log_probability``: more than half of what the image adds
            to it is kept. ``written``: the model writes the explained answer.
        cells: True for the cells of the part, (row, column) of the map.
        random: The share of the image that is needed if the cells are taken in random order, in [0, 1]. For
            ``correct``, 1 also means that no part in this order corrects the answer.
        instead: What is first without the part, for ``change`` and ``first``, or what the model writes without it, for
            ``correct``; otherwise empty.
        hide: What replaced the hidden cells: the ``mean`` color, a ``blur`` of the image, or ``noise``.
        probability: A lower bound of the probability that the part decides with random noise in the hidden cells, which
            is too high in at most 5 % of cases; None if it was not requested.
        draws: The number of draws of noise from which the bound was computed; 0 without it.
        word: The number of the word of an answer that is decided; None for a whole answer, and for captions.
    """

    region: Literal["keep", "change", "correct"]
    decision: Decision
    cells: Annotated[Bool[Tensor, "row column"], Array(2, "boolean")]
    random: Share
    instead: str = ""
    hide: Literal["mean", "blur", "noise"] = "mean"
    probability: ClosedShare | None = None
    draws: Annotated[int, Field(ge=0)] = 0
    word: Annotated[int, Field(ge=0)] | None = None

    @computed_field
    @property
    def share(self) -> float:
        """The share of the image that the part has, in [0, 1]."""
        return float(self.cells.double().mean())

    def __str__(self) -> str:
        return self.about

    @property
    def about(self) -> str:
        """What the part does, in words."""
        part = f"{percent(self.share)} of the image"
        chance = f"random order: {percent(self.random)}"
        chance += "" if self.hide == "mean" else f"; hidden by {self.hide}"
        if self.probability is not None:
            chance += f"; with a probability of at least {percent(self.probability)}, by {self.draws} draws"
        if self.region == CORRECT:
            return f"without {part}, the model writes \u201c{self.instead}\u201d ({chance})"

        half = f"half of what the image adds to the {self.decision.replace('_', '-')}"
        if self.region == "keep":
            first = "the match first" if self.word is None else "the word first"
            kept = first if self.decision == "first" else half
            return f"{part} keeps {kept} if all else is removed ({chance})"

        lost = f"\u201c{self.instead}\u201d comes first" if self.decision == "first" else f"{half} is lost"
        return f"without {part}, {lost} ({chance})"
