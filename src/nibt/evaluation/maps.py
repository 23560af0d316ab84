"""The maps of a method for one side of pairs, as plain arrays."""

from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Any

import numpy as np

from nibt.data.images import Region
from nibt.data.pair import Pair
from nibt.engine.batches import batch_indices, sides
from nibt.engine.spec import Contrast, ExplanationSpec, resolve
from nibt.models.base import Inputs, Model
from nibt.registry import find
from nibt.results.attribution import Attribution
from nibt.types import Modality


@dataclass(frozen=True)
class Map:
    """The signed scores of one pair's side: of patches (rows x columns), with the region they cover, or of words."""

    scores: np.ndarray
    words: tuple[str, ...] = ()
    region: Region | None = None


@dataclass(frozen=True)
class MethodSpec:
    """A method that is audited: its name and variant, written ``nib`` or ``nib:paper``."""

    name: str
    variant: str = "default"

    @classmethod
    def read(cls, text: str) -> "MethodSpec":
        """From ``nib`` or ``nib:paper``.

        Raises:
            UnknownName: there is no such method.

        """
        name, _, variant = text.partition(":")
        find("methods", name)
        return cls(name, variant or "default")

    def __str__(self) -> str:
        return self.name if self.variant == "default" else f"{self.name}:{self.variant}"

    @property
    def draws(self) -> bool:
        """Whether the method draws at random."""
        return "seed" in {field.name for field in fields(find("methods", self.name))}

    def question(self, model: Model, seed: int, **options: Any) -> ExplanationSpec:
        """What is asked of each pair: the cosine, explained by the method."""
        return resolve(model, self.name, "cosine", self.variant, Contrast(), None, seed, options)

    def without_means(self, model: Model, side: Modality) -> dict[str, Any]:
        """Options with which it needs no mean states, which belong to the weights that made them."""
        reference = getattr(self.question(model, 0).methods[side], "reference", "")
        return {f"{side}_reference": "blank"} if str(reference).startswith("mean") else {}


def maps(
    model: Model,
    pairs: Sequence[Pair],
    asked: MethodSpec,
    side: Modality,
    seed: int,
    batch_size: int = 16,
    **options: Any,
) -> list[Map]:
    """A map for each pair, in their order."""
    question = asked.question(model, seed, **options)
    place = question.places.index(side)
    found: dict[int, Map] = {}
    for indices in batch_indices(question, pairs, batch_size):
        seen = sides(question, [pairs[index] for index in indices])[place]
        answer = question.methods[side](seen).to("cpu")
        found |= {index: _map(answer[row], seen.inputs, row) for row, index in enumerate(indices)}
    return [found[index] for index in range(len(pairs))]


def _map(answer: Attribution, inputs: Inputs, row: int) -> Map:
    if inputs.words is None:
        return Map(answer.grid.double().numpy(), region=inputs.regions[row])
    words = inputs.words.words[row]
    scores = answer.scores.double().numpy()
    return Map(np.array([scores[list(word.tokens)].sum() for word in words]), tuple(word.text for word in words))
