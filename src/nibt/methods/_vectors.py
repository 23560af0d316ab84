"""The vectors of the units of one input, for methods that are linear in the target.

The cosine is u . v with the unit embeddings u of this side and v of the other. A method whose scores are linear in it
has a vector for each unit: P[i] . v is the score of unit i for any v, and for vectors Q[j] of the other side P Q^T is
the table of both. A method declares it by ``Method.linear``, and ``Method.vectors`` returns them: as integrals
(``_path_vectors.py``), as the method computes scores (``Side.embedded``), or from a map for each axis of the embedding.

Tables of methods that are not linear in the target have Shapley values of the words (Metagame, 2026). The game of a
patch is its score by the method for the caption with only the words of a coalition; the other words are replaced by
padding, as wherever words are removed. The entry of a word and a patch is the Shapley value of the word in the game of
the patch. The rows of all words, and the map for the caption without any word, add up to the map for the whole caption.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import combinations
from math import factorial
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float
from torch import Tensor

from nibt.core.perturbation import embeddings_with_words, generator
from nibt.core.quadrature import part_masks
from nibt.core.side import Side
from nibt.data.units import Grid, Units, Words, cells_of
from nibt.progress import listening, no_progress, tracked
from nibt.results.attribution import Attribution, PathSummary
from nibt.targets.base import Score
from nibt.types import Embedding, PerExample

AT_ONCE = 8
"""The number of maps that are computed together."""


@dataclass(frozen=True)
class PartValues:
    """Vectors of parts, (part, dim), or scores, (vector, token), with steps and missed tolerances by row."""

    values: Tensor
    steps: PerExample
    missed: Bool[Tensor, " row"]

    @classmethod
    def exact(cls, values: Tensor) -> "PartValues":
        """Return values that were not computed along a path."""
        steps = values.new_zeros(len(values))
        return cls(values, steps, steps > 0)

    @classmethod
    def mean(cls, results: "Sequence[PartValues]") -> "PartValues":
        """Return the mean over layers or views, with the largest number of steps."""
        values = torch.stack([result.values for result in results]).mean(0)
        steps = torch.stack([result.steps for result in results]).amax(0)
        return cls(values, steps, torch.stack([result.missed for result in results]).any(0))


@dataclass(frozen=True)
class VectorScores:
    """The scores of units for several vectors, (vector, unit + 1); the last column has what belongs to no unit."""

    parts: PartValues
    units: Units
    special_token_share: PerExample


def rest_share(scores: Float[Tensor, "*batch unit"]) -> Float[Tensor, "*batch"]:
    """Return the share of the absolute score in the last column, which belongs to no unit."""
    return scores[..., -1].abs() / scores.abs().sum(-1).clamp_min(1e-30)


class SideVectors(ABC):
    """The vectors of the units of one image or caption; ``after`` is its unit embedding."""

    after: Float[Tensor, " dim"]

    @property
    @abstractmethod
    def change(self) -> Float[Tensor, " dim"]:
        """Return the change of the unit embedding."""

    @abstractmethod
    def of_words(self, groups: Sequence[Sequence[int]]) -> PartValues:
        """Compute the vector of each group of token rows, and last that of all other rows: (group + 1, dim)."""

    @abstractmethod
    def of_cells(self) -> tuple[PartValues, Grid]:
        """Compute the vector of each cell, and last that of all other tokens: (cell + 1, dim)."""

    @abstractmethod
    def scores(self, other_vectors: Float[Tensor, "vector dim"], shared_bound: bool = False) -> VectorScores:
        """Compute the scores of the units for vectors of the other side."""

    def summary(self, other_vectors: Float[Tensor, "vector dim"], scores: VectorScores) -> PathSummary | None:
        """Return the summary of the path, with an item per vector; None for methods without a path."""
        return None


@dataclass(frozen=True)
class UnitVectors(SideVectors):
    """Vectors without a path, (unit + 1, dim), and the unit embeddings of the input with and without units."""

    after: Float[Tensor, " dim"]
    before: Float[Tensor, " dim"]
    vectors: Float[Tensor, "unit dim"]
    units: Units

    @classmethod
    def of_maps(cls, side: Side, method: Callable[[Side], Attribution]) -> "UnitVectors":
        """Compute the vectors of a linear method from its maps for each axis of the embedding."""
        unit = F.normalize(side.trace.embedding.detach(), dim=-1)[0]
        axes = torch.eye(len(unit), dtype=unit.dtype, device=unit.device)
        maps = []
        for chunk in axes.split(AT_ONCE):

            def score(embeddings: Embedding, chunk: Tensor = chunk) -> PerExample:
                return (F.normalize(embeddings, dim=-1) * chunk).sum(-1)

            maps.append(method(Side(side.model, side.trace.take([0] * len(chunk)), score, side.memory)))
        starts = [batch.path.at_baseline for batch in maps if batch.path is not None]
        before = torch.cat(starts) if starts else F.normalize(side.blank(), dim=-1)[0]
        units, vectors = maps[0].units, F.pad(torch.cat([batch.scores for batch in maps]).T, (0, 0, 0, 1))
        return cls(unit, before, vectors, units.bare() if isinstance(units, Grid) else units)

    @property
    def change(self) -> Float[Tensor, " dim"]:
        return self.after - self.before

    def of_words(self, groups: Sequence[Sequence[int]]) -> PartValues:
        return PartValues.exact(part_masks(groups, len(self.vectors)).to(self.vectors) @ self.vectors)

    def of_cells(self) -> tuple[PartValues, Grid]:
        return PartValues.exact(self.vectors), cells_of(self.units)

    def scores(self, other_vectors: Float[Tensor, "vector dim"], shared_bound: bool = False) -> VectorScores:
        scores = other_vectors @ self.vectors.to(other_vectors).T
        return VectorScores(PartValues.exact(scores), self.units, rest_share(scores))


EXACT = 10
"""The largest number of words whose coalitions are all evaluated: 1,024 maps of the image."""
ORDERS = 32
"""The number of random orders of the words of longer captions; each has a map for each word."""


@dataclass(frozen=True)
class TableScores:
    """The scores of a table; the last row and column have all tokens that are no words or patches."""

    scores: Float[Tensor, "word patch"]
    grid: Grid
    product: float
    steps: Mapping[str, int] | None = None
    notes: tuple[str, ...] = ()


def image_maps(method: Callable[[Side], Attribution], image: Side, others: Tensor) -> Attribution:
    """Return the maps of one image for several embeddings of the other side: (other, dim) or (other, vector, dim)."""
    assert isinstance(image.score, Score)
    return method(replace(image, trace=image.trace.take([0] * len(others)), score=replace(image.score, other=others)))


def with_other_tokens(maps: Attribution) -> Float[Tensor, "map patch"]:
    """Return the scores with a last column for image tokens that are no patches, which only a path has."""
    scores = maps.scores.float().cpu()
    others = scores.new_zeros(len(scores)) if maps.path is None else maps.path.special_tokens.float().cpu()
    return torch.cat([scores, others[:, None]], 1)


def vector_table(of_image: SideVectors, of_text: SideVectors, words: Words) -> TableScores:
    """Compute a table from the vectors of both sides."""
    of_words = of_text.of_words([word.tokens for word in words.words[0]])
    of_patches = of_image.scores(of_words.values, shared_bound=True)
    grid = cells_of(of_patches.units)
    scores, product = of_patches.parts.values.float().cpu(), float(of_image.change @ of_text.change)
    if of_words.steps.max() == 0:
        return TableScores(scores, grid, product)
    sides = {"image": of_patches.parts, "text": of_words}
    steps = {side: int(parts.steps.max()) for side, parts in sides.items()}
    notes = tuple(
        f"the {side} side of the table is above the tolerance after {steps[side]} steps: the table adds up to "
        f"{float(scores.sum()):.3g} instead of {product:.3g}"
        for side, parts in sides.items()
        if parts.missed.any()
    )
    return TableScores(scores, grid, product, steps, notes)


def word_game_table(method: Any, image: Side, text: Side, words: Words) -> TableScores:
    """Compute the table of one pair."""
    assert text.inputs.words is not None
    players = text.inputs.words[0].words[0]
    coalitions, shares = word_game(len(players))
    with listening(no_progress):  # the maps take longer, and are reported
        captions = embeddings_with_words(text, players, torch.from_numpy(coalitions).float())
    maps = [image_maps(method, image, chunk) for chunk in tracked(captions.split(AT_ONCE))]
    scores = torch.cat([with_other_tokens(batch) for batch in maps]).double()
    values = torch.from_numpy(shares) @ (scores - scores[0])  # a row per word
    values[values.abs() <= torch.finfo(torch.float32).eps * scores.abs().max()] = 0.0  # rounding, which has no meaning
    rows = [players.index(word) for word in words.words[0]]
    full_map, table = scores[-1], values[rows]
    full = torch.cat([table, (full_map - table.sum(0))[None]]).float()
    notes = () if values.any() else (f"maps of {method.name} do not depend on the words",)
    return TableScores(full, cells_of(maps[0].units).bare(), float(full_map.sum()), notes=notes)


def word_game(count: int) -> tuple[np.ndarray, np.ndarray]:
    """Return coalitions of words, from none to all, and the weight of each in the Shapley value of each word."""
    if count <= EXACT:
        sets = [frozenset(coalition) for size in range(count + 1) for coalition in combinations(range(count), size)]
        added = [(before, word) for before in sets[:-1] for word in set(range(count)) - before]
        sizes = [len(before) for before, _ in added]
        weights = [factorial(size) * factorial(count - size - 1) / factorial(count) for size in sizes]
    else:
        draws = generator(0)
        half = [draws.permutation(count).tolist() for _ in range(ORDERS // 2)]
        orders = [order for permutation in half for order in (permutation, permutation[::-1])]
        prefixes = [frozenset(order[:size]) for order in orders for size in range(count + 1)]
        sets = sorted(set(prefixes), key=lambda coalition: (len(coalition), sorted(coalition)))
        added = [(frozenset(order[:size]), word) for order in orders for size, word in enumerate(order)]
        weights = [1 / len(orders)] * len(added)
    place = {coalition: index for index, coalition in enumerate(sets)}
    shares = np.zeros((count, len(sets)))
    for (before, word), weight in zip(added, weights, strict=True):
        shares[word, place[before | {word}]] += weight
        shares[word, place[before]] -= weight
    coalitions = np.array([[word in coalition for word in range(count)] for coalition in sets])
    return coalitions, shares
