"""Deletion and insertion of word-patch pairs, and of the patches of a noun."""

from abc import ABC
from dataclasses import dataclass
from typing import Annotated, ClassVar

import torch
from jaxtyping import Float, Int
from torch import Tensor

from nibt.metrics._coalitions import embeddings_of_patches, embeddings_of_words, on_patches
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
        nouns, count = metric_input.nouns, len(metric_input.regions.words)
        if not nouns:
            return torch.full((1, self.levels + 1), torch.nan, dtype=torch.float32, device="cpu")
        table = on_patches(metric_input)
        patches, words = [], torch.zeros(len(nouns), count, dtype=torch.float32, device="cpu")
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

    Pairs of a word and a patch come by decreasing score; each takes away its word and its patch. The score is the
    cosine of what is visible of both, over the share of all units that are removed.

    Range:
        that of the cosine

    Forward passes:
        2 x ``levels``, 22

    Use it when:
        You want faithfulness of the strongest links, without ground truth.

    Avoid it when:
        The caption has few words: they are gone after a few pairs, and the curve shows patches only.

    Source:
        Petsiuk et al., BMVC 2018 (RISE), for pairs
    """

    better = "lower"
    inserted = False


@dataclass(frozen=True)
class PairInsertion(PairCurve, name="pair_insertion"):
    """Pair insertion: the area under the cosine while words and patches are inserted by the strongest pairs.

    It is computed as ``pair_deletion``, but each pair brings in its word and its patch.

    Range:
        that of the cosine

    Forward passes:
        2 x ``levels``, 22

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
        The data set knows no objects.

    Source:
        Moeller et al., TMLR 2025 (exCLIP), whose program for it is not public
    """

    better = "lower"
    inserted = False


@dataclass(frozen=True)
class NounInsertion(NounCurve, name="noun_insertion"):
    """Noun insertion: the area under the cosine while patches are inserted by the map of a noun.

    It is ``noun_deletion`` with patches that come in.

    Range:
        that of the cosine

    Forward passes:
        as of ``noun_deletion``

    Use it when:
        As for ``noun_deletion``. Report both.

    Avoid it when:
        As for ``noun_deletion``.

    Source:
        as of ``noun_deletion``
    """

    better = "higher"
    inserted = True
