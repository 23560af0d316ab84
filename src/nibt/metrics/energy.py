"""The energy-based pointing game: the share of the positive scores on objects."""

from dataclasses import dataclass
from typing import Annotated

import torch

from nibt.metrics.base import MaskMetric, Noun, NounMetric, PixelMap, PixelMask
from nibt.options import OneOf


@dataclass(frozen=True)
class Energy(MaskMetric, name="energy"):
    """Energy-based pointing game: the share of the positive scores on the named objects, from 0 to 1.

    Negative pixels become 0. A map without positive pixels gets 0.

    This is the relevance mass accuracy of Arras et al., 2022, too.

    Use it when:
        You want to know how focused a map is.

    Avoid it when:
        You compare rectified maps with maps that are positive everywhere, such as ``legrad``: 0.13 on ``scenes`` with a
        good order.

    Source:
        Wang et al., CVPR workshops 2020 (Score-CAM); Arras et al., Information Fusion 81, 2022
    """

    def number(self, scores: PixelMap, mask: PixelMask) -> float:
        return _share_on(mask, scores)


@dataclass(frozen=True)
class NounEnergy(NounMetric, name="noun_energy"):
    """Noun energy: the share of each noun's positive scores on its own object, or on the objects of other nouns.

    The map of a noun is the sum of the rows of its words, resized bilinearly to the pixels; negative pixels become 0.

    Use it when:
        You want to know whether the nouns of a caption are told apart; compare ``on="own"`` with ``on="others"``.

    Avoid it when:
        You compare tables with positive entries only with signed ones.

    Source:
        Wang et al., CVPR workshops 2020 (Score-CAM), for each noun

    Args:
        on: ``own`` for the object of the noun, ``others`` for all other objects, of which lower shares are better.
    """

    on: Annotated[str, OneOf(("own", "others"))] = "own"

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.on == "others":
            object.__setattr__(self, "better", "lower")

    def number(self, pixels: PixelMap, noun: Noun) -> float:
        if self.on == "others" and not noun.others:
            return float("nan")
        mask = noun.mask if self.on == "own" else torch.stack(noun.others).any(0) & ~noun.mask
        return _share_on(mask, pixels)


def _share_on(mask: PixelMask, scores: PixelMap) -> float:
    mass = scores.double().clamp_min(0)
    return float(mass[mask].sum() / mass.sum()) if mass.sum() > 0 else 0.0
