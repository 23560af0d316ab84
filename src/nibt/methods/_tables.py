"""Tables of words and patches: from the vectors of both sides, or from maps of an image for subsets of the words.

Tables of methods that are not linear in the target have Shapley values of the words (Metagame, 2026). The game of a
patch is its score by the method for the caption with only the words of a coalition; the other words are replaced by
padding, as wherever words are removed. The entry of a word and a patch is the Shapley value of the word in the game of
the patch. The rows of all words, and the map for the caption without any word, add up to the map for the whole caption.
"""

from collections.abc import Callable
from dataclasses import replace
from itertools import combinations
from math import factorial

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from nibt.core.perturbation import embeddings_with_words, generator
from nibt.core.side import Side
from nibt.data.units import Words, cells_of
from nibt.methods._unit_vectors import AT_ONCE
from nibt.methods._vectors import SideVectors, TableScores
from nibt.methods.base import Method
from nibt.progress import listening, no_progress, tracked
from nibt.results.attribution import Attribution
from nibt.targets.base import Score

EXACT = 10
"""The largest number of words whose coalitions are all evaluated: 1,024 maps of the image."""
ORDERS = 32
"""The number of random orders of the words of longer captions; each has a map for each word."""


def image_maps(method: Callable[[Side], Attribution], image: Side, others: Tensor) -> Attribution:
    """Return the maps of one image for several embeddings of the other side: (other, dim) or (other, vector, dim)."""
    assert isinstance(image.score, Score)
    return method(
        replace(image, trace=image.trace.take([0] * len(others)), score=replace(image.score, other=others, own=None))
    )


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
    scores = of_patches.parts.values.float().cpu()
    product = float(of_image.change @ of_text.change)
    if of_words.steps.max() == 0:
        return TableScores(scores, grid, product)

    sides = {"image": of_patches.parts, "text": of_words}
    steps = {side: int(parts.steps.max()) for side, parts in sides.items()}
    notes = tuple(
        f"the {side} side of the table is above the tolerance after {steps[side]} steps: the table "
        f"{sum_text(float(scores.sum()), product)}"
        for side, parts in sides.items()
        if parts.missed.any()
    )
    return TableScores(scores, grid, product, steps, notes)


def sum_text(total: float, product: float) -> str:
    """Return what a table adds up to, with its gap.

    >>> sum_text(0.016, 0.104)
    'adds up to 0.016, 0.088 less than 0.104'
    """
    gap = product - total
    return f"adds up to {total:.3g}, {abs(gap):.2g} {'less' if gap > 0 else 'more'} than {product:.3g}"


def word_game_table(method: Method, image: Side, text: Side, words: Words) -> TableScores:
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
    full_map = scores[-1]
    table = values[rows]
    full = torch.cat([table, (full_map - table.sum(0))[None]]).float()
    notes = () if values.any() else (f"maps of {method.name} do not depend on the words",)
    return TableScores(full, cells_of(maps[0].units).bare(), float(full_map.sum()), notes=notes)


def word_game(count: int) -> tuple[np.ndarray, np.ndarray]:
    """Return coalitions of words, from none to all, and the weight of each in the Shapley value of each word."""
    additions = _all_additions(count) if count <= EXACT else _drawn_additions(count)
    coalitions = {before for before, _, _ in additions} | {before | {word} for before, word, _ in additions}
    ordered = sorted(coalitions, key=lambda coalition: (len(coalition), sorted(coalition)))

    place = {coalition: index for index, coalition in enumerate(ordered)}
    shares = np.zeros((count, len(ordered)))
    for before, word, weight in additions:
        shares[word, place[before | {word}]] += weight
        shares[word, place[before]] -= weight

    return np.array([[word in coalition for word in range(count)] for coalition in ordered]), shares


def _all_additions(count: int) -> list[tuple[frozenset[int], int, float]]:
    """Return each coalition, each word that joins it, and the weight of what the word adds in its Shapley value."""
    additions = []
    for size in range(count):
        weight = factorial(size) * factorial(count - size - 1) / factorial(count)
        for coalition in combinations(range(count), size):
            additions += [(frozenset(coalition), word, weight) for word in range(count) if word not in coalition]
    return additions


def _drawn_additions(count: int) -> list[tuple[frozenset[int], int, float]]:
    """Return additions as ``_all_additions``, in random orders of the words and in the same orders reversed."""
    draws = generator(0)
    additions = []
    for _ in range(ORDERS // 2):
        permutation = draws.permutation(count).tolist()
        for order in (permutation, permutation[::-1]):
            additions += [(frozenset(order[:size]), word, 1 / ORDERS) for size, word in enumerate(order)]

    return additions
