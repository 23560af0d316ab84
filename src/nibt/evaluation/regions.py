"""The regions of pairs, as the input of metrics."""

import time
from collections.abc import Iterator, Sequence
from functools import partial

from nibt.data.ground_truth import objects_of_words, seen_mask
from nibt.data.images import Region
from nibt.data.pair import Pair
from nibt.data.units import Words
from nibt.engine.batch_cache import BatchCache
from nibt.engine.regions import explain_pair
from nibt.engine.spec import ExplanationSpec
from nibt.metrics.base import Noun, PixelMask, RegionsInput


def regions_inputs(
    spec: ExplanationSpec, pairs: Sequence[Pair], cache: BatchCache | None
) -> Iterator[tuple[RegionsInput, float]]:
    """Yield the regions of each pair, and the seconds to compute them."""
    for pair in pairs:
        started = time.perf_counter()
        regions, image, text = explain_pair(spec, pair, ())
        seconds = time.perf_counter() - started
        nouns, others = nouns_of(pair, regions.region, regions.units), others_of(pair, regions.region)
        yield RegionsInput(regions, image, text, nouns, others, shared=cache and partial(cache.once, [pair])), seconds


def nouns_of(pair: Pair, region: Region, words: Words) -> tuple[Noun, ...]:
    """Return the nouns of a caption whose objects are visible."""
    named = objects_of_words(pair, region, words)
    return tuple(
        Noun(positions, mask, tuple(other for place, (_, other) in enumerate(named) if place != index))
        for index, (positions, mask) in enumerate(named)
    )


def others_of(pair: Pair, region: Region) -> tuple[PixelMask, ...]:
    """Return the masks of the visible objects that no words name."""
    masks = [seen_mask(pair, [obj], region) for obj in pair.objects if not obj.spans]
    return tuple(mask for mask in masks if mask.any())
