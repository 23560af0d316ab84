"""Areas under curves of regions: deletion and insertion of word-patch pairs, of the patches of a noun, of all units."""

from abc import ABC
from dataclasses import dataclass
from typing import Annotated, ClassVar

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from nibt.metrics._perturbation import embeddings_of_patches, embeddings_of_words, on_patches
from nibt.metrics.base import AreaMetric, RegionsInput
from nibt.options import Levels, OneOf


@dataclass(frozen=True)
class RegionsCurve(AreaMetric[RegionsInput], ABC):
    """Base class of the areas under curves of the cosine, while units are removed or inserted."""

    sides = ("regions",)
    inserted: ClassVar[bool]

    levels: Levels = 10

    def kept(self, places: Int[Tensor, " unit"], count: int) -> Float[Tensor, "level unit"]:
        """Return the masks of units by their places among ``count``, at each share that is removed or inserted."""
        shares = torch.linspace(0, 1, self.levels + 1, dtype=torch.float32, device="cpu")
        return ((places < (shares * count).round()[:, None]) == self.inserted).float()


class PairCurve(RegionsCurve):
    """Base class of the areas under curves of removal and insertion of pairs.

    Args:
        levels: The number of steps from no to all words and patches, of equal size.
    """

    def curve(self, metric_input: RegionsInput) -> Float[Tensor, "1 level"]:
        """Compute the cosines as pairs, by decreasing score, bring in their word and their patch, if it is not in."""
        cells = on_patches(metric_input)
        orders: tuple[dict[int, int], dict[int, int]] = {}, {}
        for pair in cells.flatten().argsort(descending=True, stable=True).tolist():
            for order, unit in zip(orders, divmod(pair, cells.shape[1]), strict=True):
                order.setdefault(unit, len(orders[0]) + len(orders[1]))

        words, patches = (
            self.kept(torch.tensor([order[unit] for unit in range(len(order))], device="cpu"), sum(cells.shape))
            for order in orders
        )
        text = embeddings_of_words(metric_input.text, metric_input.regions, words)
        return (text * embeddings_of_patches(metric_input.image, patches)).sum(-1)[None]


@dataclass(frozen=True)
class NounCurve(RegionsCurve):
    """Base class of the areas under curves of removal and insertion of patches by the map of a noun.

    Args:
        levels: The number of steps from no to all patches, of equal size.
        caption: The caption of the cosine: ``whole``, or the words of the ``noun`` only.
    """

    caption: Annotated[str, OneOf(("whole", "noun"))] = "whole"

    def curve(self, metric_input: RegionsInput) -> Float[Tensor, "1 level"]:
        """Compute the means over nouns of the cosines."""
        nouns = metric_input.nouns
        count = len(metric_input.regions.words)
        if not nouns:
            return torch.full((1, self.levels + 1), torch.nan, dtype=torch.float32, device="cpu")

        table = on_patches(metric_input)
        patches = []
        words = torch.zeros(len(nouns), count, dtype=torch.float32, device="cpu")
        for place, noun in enumerate(nouns):
            order = table[list(noun.words)].sum(0).argsort(descending=True, stable=True).argsort()
            patches.append(self.kept(order, len(order)))
            words[place, list(noun.words)] = 1.0

        if self.caption == "whole":
            words[:] = 1.0
        image = embeddings_of_patches(metric_input.image, torch.cat(patches))
        text = embeddings_of_words(metric_input.text, metric_input.regions, words)
        return (image.unflatten(0, (len(nouns), -1)) * text[:, None]).sum(-1).mean(0)[None]


@dataclass(frozen=True)
class PairDeletion(PairCurve, name="pair_deletion"):
    """Pair deletion: the area under the cosine while words and patches are removed by the strongest pairs.

    The entries of the table are visited by decreasing score, and each removes its word and its patch. The curve is the
    cosine of the kept words and patches, over the share of all words and patches that are removed.

    Range:
        that of the cosine

    Forward passes:
        2 x (``levels`` + 1), 22

    Use it when:
        You measure the faithfulness of the largest entries, without ground truth.

    Avoid it when:
        The caption has few words: they are removed after a few pairs, and the rest of the curve depends on patches
        only.

    Source:
        Petsiuk et al., BMVC 2018 (RISE), for pairs
    """

    better = "lower"
    inserted = False


@dataclass(frozen=True)
class PairInsertion(PairCurve, name="pair_insertion"):
    """Pair insertion: the area under the cosine while words and patches are inserted by the strongest pairs.

    It is computed as ``pair_deletion``, but from an empty input, to which each entry adds its word and its patch.

    Range:
        that of the cosine

    Forward passes:
        2 x (``levels`` + 1), 22

    Use it when:
        As for ``pair_deletion``. Report both.

    Avoid it when:
        As for ``pair_deletion``.

    Source:
        Petsiuk et al., BMVC 2018 (RISE), for pairs
    """

    better = "higher"
    inserted = True


@dataclass(frozen=True)
class NounDeletion(NounCurve, name="noun_deletion"):
    """Noun deletion: the area under the cosine while patches are removed by the map of a noun, a mean over nouns.

    Range:
        that of the cosine

    Forward passes:
        ``levels`` + 1 for each noun

    Use it when:
        You want the faithfulness of single words.

    Avoid it when:
        The data set has no annotated objects.

    Source:
        Moeller et al., TMLR 2025 (exCLIP), whose program for it is not public
    """

    better = "lower"
    inserted = False


@dataclass(frozen=True)
class NounInsertion(NounCurve, name="noun_insertion"):
    """Noun insertion: the area under the cosine while patches are inserted by the map of a noun.

    It is computed as ``noun_deletion``, but patches are inserted.

    Range:
        that of the cosine

    Forward passes:
        Moeller et al., TMLR 2025 (exCLIP), as of ``noun_deletion``

    Use it when:
        As for ``noun_deletion``. Report both.

    Avoid it when:
        As for ``noun_deletion``.

    Source:
        Moeller et al., TMLR 2025 (exCLIP), as of ``noun_deletion``
    """

    better = "higher"
    inserted = True


_SHARES = 51  # at which the authors read a curve


@dataclass(frozen=True)
class PairArea(AreaMetric[RegionsInput], name="pair_area"):
    r"""Pair area: the area between the curves of deleting the least and the most important words and patches.

    For each number of units, a greedy search looks for the words and patches with the largest, and with the smallest,
    sum of the table over their pairs: what remains after the least, or the most, important units are deleted. A curve
    has the cosines of these sets, scaled so that the cosine of no unit is 0 and that of all units is 1.

    Range:
        any

    Forward passes:
        2 x (words + patches + 1) on each side

    Use it when:
        You compare with FIxLIP.

    Avoid it when:
        The image and the caption do not match: the scaling divides by what all units add, which is then small.

    Source:
        Baniecki et al., NeurIPS 2025 (FIxLIP)
    """

    better = "higher"
    sides = ("regions",)

    def curve(self, metric_input: RegionsInput) -> Float[Tensor, "1 level"]:
        """Compute the differences of the curves at each share of the units, from all to none."""
        table = on_patches(metric_input).cpu().double().numpy()
        largest, smallest = extreme_sets(table)
        kept = torch.from_numpy(np.concatenate([largest, smallest])).float()
        image = embeddings_of_patches(metric_input.image, kept[:, : table.shape[1]])
        text = embeddings_of_words(metric_input.text, metric_input.regions, kept[:, table.shape[1] :])
        least, most = (image * text).sum(-1).double().chunk(2)
        change = least[0] - least[-1]
        scaled = ((least - most) / change.where(change != 0, torch.nan)).numpy()
        shares = np.linspace(0, 1, _SHARES)
        return torch.from_numpy(np.interp(shares, np.linspace(0, 1, len(scaled)), scaled))[None]


def extreme_sets(table: np.ndarray) -> tuple[Bool[np.ndarray, "size unit"], Bool[np.ndarray, "size unit"]]:
    """Return the sets of patches and words with the largest and the smallest value, from all units to none.

    Args:
        table: The score of each pair: words x patches.
    """
    words, patches = table.shape
    pairs = np.zeros((patches + words, patches + words))
    pairs[patches:, :patches], pairs[:patches, patches:] = table, table.T
    grown = [_grown(pairs, sign) for sign in (1.0, -1.0)]
    values = np.stack([value for _, value in grown], 1).reshape(-1, len(pairs))  # largest and smallest of each start
    orders = np.stack([order for order, _ in grown], 1).reshape(-1, len(pairs))
    place = np.argsort(orders, axis=1)
    sizes = np.arange(len(pairs), 0, -1)
    best_starts = (best[sizes - 1] for best in (values.argmax(0), values.argmin(0)))
    none = np.zeros((1, len(pairs)), bool)
    largest, smallest = (np.concatenate([place[starts] < sizes[:, None], none]) for starts in best_starts)
    return largest, smallest


def _grown(pairs: np.ndarray, sign: float) -> tuple[np.ndarray, np.ndarray]:
    """Grow a set from each unit by the unit that adds most, or least; return the orders, and the value of each size."""
    count = len(pairs)
    starts = np.arange(count)
    orders = [starts]
    values = [np.zeros(count)]
    gains = pairs.copy()
    inside = np.eye(count, dtype=bool)
    for _ in range(count - 1):
        added = np.where(inside, -np.inf, sign * gains).argmax(1)
        values.append(values[-1] + gains[starts, added])
        orders.append(added)
        inside[starts, added] = True
        gains += pairs[added]

    return np.stack(orders, 1), np.stack(values, 1)
