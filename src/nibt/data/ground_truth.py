"""What is known of a pair, in the terms of its two maps: pixels of the seen region, and words of the caption."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Bool
from torch import Tensor

from nibt.data.images import Region
from nibt.data.pair import Object, Pair, Span
from nibt.data.units import Words


@dataclass(frozen=True)
class GroundTruth:
    """The truth of one pair.

    ``mask`` is true on the seen pixels of the objects that the caption names, ``others`` are the masks of the objects
    that it does not name; ``named`` and ``absent`` tell for each word of the caption whether it names an object of the
    image, or one that is not there. Each is None, or empty, where nothing is known, or nothing is named.
    """

    mask: Bool[Tensor, "height width"] | None = None
    others: tuple[Bool[Tensor, "height width"], ...] = ()
    named: Bool[Tensor, " word"] | None = None
    absent: Bool[Tensor, " word"] | None = None


def ground_truth(pair: Pair, region: Region, words: Words) -> GroundTruth:
    """What is known of a pair, for a model that sees that region of the image, and those words of one caption."""
    named = [thing for thing in pair.objects if thing.spans]
    spans = list(word_spans(pair.caption, words))
    places = [span for thing in named for span in thing.spans]
    others = [thing for thing in pair.objects if not thing.spans]
    return GroundTruth(
        seen_mask(pair, named, region) if named else None,
        tuple(seen_mask(pair, [thing], region) for thing in others) if named else (),
        _touched(spans, places) if places else None,
        _touched(spans, pair.absent) if pair.absent else None,
    )


def seen_mask(pair: Pair, things: list[Object], region: Region) -> Bool[Tensor, "height width"]:
    """Where in the seen region the objects are: their masks, or their boxes where they have none."""
    width, height = pair.image.size
    whole = np.zeros((height, width), bool)
    for thing in things:
        if thing.mask is not None:
            whole |= thing.mask
        else:
            left, top, across, down = (round(side) for side in thing.box)
            whole[max(0, top) : max(0, top + down), max(0, left) : max(0, left + across)] = True
    left, top = round(region.left), round(region.top)
    across, down = max(1, round(region.width)), max(1, round(region.height))
    seen = np.zeros((down, across), bool)
    inner = whole[max(0, top) : top + down, max(0, left) : left + across]
    seen[max(0, -top) :, max(0, -left) :][: inner.shape[0], : inner.shape[1]] = inner
    return torch.from_numpy(seen)


def word_spans(caption: str, words: Words) -> Iterator[Span | None]:
    """Where each word of one caption stands in it; None where the tokeniser spells it in another way.

    Words stand in their order, so each is looked for behind the one before.
    """
    folded, place = caption.lower(), 0
    for word in words.words[0]:
        start = folded.find(word.text.lower(), place)
        if start < 0:
            yield None
        else:
            place = start + len(word.text)
            yield start, place


def _touched(words: list[Span | None], spans: tuple[Span, ...] | list[Span]) -> Bool[Tensor, " word"]:
    return torch.tensor(
        [word is not None and any(first < word[1] and word[0] < last for first, last in spans) for word in words]
    )
