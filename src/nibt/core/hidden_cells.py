"""What a model decides about an image of which some cells are hidden: what decisive regions are found by."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from functools import cached_property
from typing import Any, ClassVar, Literal

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from nibt.core.perturbation import masker
from nibt.core.side import Side
from nibt.data.units import Grid
from nibt.errors import BadInput
from nibt.models._loaded import LoadedModel
from nibt.registry import Plugin
from nibt.results.base import ResultWithMaps
from nibt.results.decisive import Decision

DRAWS = 5
"""The number of draws of noise with each of which a part decides: with one, few parts decide with another draw."""
Cells = Bool[Tensor, "mask cell"]
MaskValues = Float[Tensor, "mask *value"]
_Filling = Callable[[Float[Tensor, "mask batch cell"]], Tensor]


def no_limit(images: int) -> None:
    """Accept any number of changed images."""


@dataclass(frozen=True, kw_only=True)
class HiddenCells(ABC):
    """An image with some of its cells hidden, and what a model decides about it.

    Attributes:
        side: The side of the image, whose values candidates are computed from.
        scores: The map by whose order cells are taken.
        hide: What replaces hidden cells: ``mean``, ``blur`` or ``noise``.
        names: What is compared with what is explained; empty without a comparison.
        amount: What the image adds to, where the rank does not decide.
        word: The number of the word of an answer that is explained; None for a caption and for a whole answer.
        text: The answer that is explained, up to that word; empty for a caption.
        check_limit: Checks that so many changed images, at least, are within the limit of a server.
    """

    side: Side
    scores: Float[Tensor, "row column"]
    hide: Literal["mean", "blur", "noise"]
    names: Sequence[str] = ()
    amount: Decision
    word: int | None = None
    text: str = ""
    check_limit: Callable[[int], None] = no_limit

    @abstractmethod
    def candidates(self, values: MaskValues) -> Float[Tensor, "mask candidate"]:
        """Return the number of what is explained, and those of what is compared with it, from values of the side."""

    @property
    def cells(self) -> int:
        """The number of cells."""
        return self.scores.numel()

    @property
    def draws(self) -> range:
        """The draws of what replaces hidden cells."""
        return range(DRAWS if self.hide == "noise" else 1)

    @cached_property
    def _fillings(self) -> Sequence[_Filling]:
        return [self._filling(draw) for draw in self.draws]

    def _filling(self, draw: int) -> _Filling:
        """Return the values of the image as a function of what is shown, with a draw of what replaces the rest."""
        return masker(self.side, Grid(*self.scores.shape), hide=self.hide, seed=draw)

    def shown(self, cells: Cells, draw: int = 0) -> Float[Tensor, "mask candidate"]:
        """Return the candidates for each set of cells that is shown."""
        masks = cells.float()[:, None].to(self.side.tower.example.device)
        fill = self._fillings[draw] if draw in self.draws else self._filling(draw)
        return self.candidates(fill(masks)[:, 0].float()).cpu()

    def of_ends(self) -> Float[Tensor, "draw end candidate"]:
        """Return the candidates of no cell and of all cells."""
        nothing_and_all = torch.tensor([[False], [True]]).expand(2, self.cells)
        return torch.stack([self.shown(nothing_and_all, draw) for draw in self.draws])

    def margins(self, decision: Decision, candidates: Float[Tensor, "*example candidate"]) -> Float[Tensor, "*example"]:
        """Return the numbers that a decision compares with its limit."""
        explained = candidates[..., 0]
        if decision == "first":
            return explained - candidates[..., 1:].amax(-1)
        if decision == "difference":
            return explained - candidates[..., 1]
        return explained


class Decisions(Plugin):
    """Base class of plugins that hide cells of the image of a kind of result, by the name of the kind.

    Attributes:
        of: The class of the results.
    """

    of: ClassVar[type]

    @classmethod
    @abstractmethod
    def opened(
        cls, model: Any, result: Any, word: int | str | None, hide: Any, writes: bool = False
    ) -> AbstractContextManager[HiddenCells]:
        """Return the cells of the image of a result, which can be hidden inside ``with``.

        Args:
            model: The model of the result, or what it is loaded from.
            result: The result.
            word: The word of an answer that is decided.
            hide: What replaces hidden cells.
            writes: Whether it is decided if the model writes the explained answer, and not how probable it is.
        """


def check_model(result: ResultWithMaps, model: LoadedModel) -> None:
    """Check that a result is of a model."""
    theirs, ours = ({**record, "id": None, "device": None} for record in (result.model, model.record()))
    if theirs != ours:
        names = (name for name in (*ours, *theirs) if theirs.get(name, ...) != ours.get(name, ...))
        raise BadInput(
            f"the explanation is of {result.model['id']} with another {next(names)} than the model: give that model, "
            "loaded with the same options, or explain again with this one"
        )
