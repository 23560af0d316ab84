"""The values of words of an answer as games: functions of which words of a text are kept.

A game is a tower of texts whose words are left out, so that all methods that only change inputs play it.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import TypeAlias

import torch
from torch import Tensor

from nibt.core.side import Side
from nibt.data.units import Word
from nibt.methods._units import SegmentMethod
from nibt.models._functions import FunctionImageTower, FunctionModule, WordRemovalTower
from nibt.models._inputs import Inputs
from nibt.models._loaded import LoadedModel
from nibt.models.base import Tower
from nibt.preprocessing.captions import Tokens, word_pieces, words_of_text
from nibt.types import Embedding

Kept: TypeAlias = tuple[int, ...]
"""The numbers of the words that are kept."""
Rows: TypeAlias = Sequence[Sequence[float]]


@dataclass(frozen=True, eq=False)
class TargetModel(LoadedModel):
    """A model of which only the values of targets are known, as functions of the inputs.

    Attributes:
        tower: The tower, whose embeddings are the values.
    """

    tower: Tower

    @classmethod
    def of(cls, tower: "FunctionImageTower | WordGameTower") -> "TargetModel":
        """Return the model of a tower."""
        return cls("targets", "server", tower.root, tower)

    @property
    def towers(self) -> tuple[Tower]:
        return (self.tower,)

    def _towers_anew(self, family: object) -> tuple[Tower]:
        return (self.tower,)

    @property
    def item_ndim(self) -> int:
        return 1


class WordGame(FunctionModule, ABC):
    """The values of a target as a function of which words are kept.

    Attributes:
        words: The words.
    """

    def __init__(self, words: Sequence[str]) -> None:
        super().__init__()
        self.words = tuple(words)
        self.register_buffer("probe", torch.zeros(1))

    @abstractmethod
    def values(self, kept: Sequence[Kept]) -> Rows:
        """Compute the values with each of some sets of words."""


class WordGameTower(WordRemovalTower):
    """A game of words as a tower, whose ids are the numbers of the words from 1 on, and 0 for one that is left out."""

    root: WordGame

    def tokens(self, caption: str) -> Tokens:
        count = len(self.root.words)
        words = tuple(Word(text, (row,)) for row, text in enumerate(self.root.words))
        return Tokens(tuple(range(1, 1 + count)), self.root.words, (True,) * count, words)

    def run(self, inputs: Inputs) -> Embedding:
        kept = [tuple(number - 1 for number in row if number) for row in self.kept_ids(inputs).tolist()]
        return torch.tensor(self.root.values(kept), dtype=torch.float32, device="cpu")


class TextWords(WordGame):
    """The words of a text.

    Args:
        text: The text.
        score: Computes the values for some texts.
    """

    def __init__(self, text: str, score: Callable[[Sequence[str]], Rows]) -> None:
        self.pieces = word_pieces(text)
        self.score = score
        super().__init__(words_of_text(text))

    def values(self, kept: Sequence[Kept]) -> Rows:
        return self.score(["".join(self.pieces[number] for number in numbers).strip() for numbers in kept])


@dataclass(frozen=True)
class PlayedGame:
    """What a method finds in a game.

    Attributes:
        scores: The scores of the words for each value, (word, value).
        errors: Their errors; None if the scores are no estimates.
        without: The values without any word.
    """

    scores: Tensor
    errors: Tensor | None
    without: list[float]


def played(game: WordGame, method: SegmentMethod) -> PlayedGame:
    """Explain the values of a game by a method that changes inputs."""
    of_words = replace(method, units="words")  # which are neither segments nor refined
    tower = WordGameTower(game)
    inputs = tower.prepare([" ".join(game.words)])
    side = Side(TargetModel.of(tower), tower.trace(inputs), as_they_are)
    estimates = of_words.estimates(side, side.units)
    without = of_words.nothing(side, side.units)[0].tolist()
    return PlayedGame(estimates.scores[0], None if estimates.error is None else estimates.error[0], without)


def as_they_are(values: Tensor) -> Tensor:
    """Return the values of words, each of which is a target."""
    return values
