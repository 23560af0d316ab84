"""Pairs with another caption, made-up words, another image, or other wordings of the caption."""

from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np

from nibt.data.pair import Pair
from nibt.errors import BadInput
from nibt.evaluation.maps import Map
from nibt.registry import find

_ONSETS = "bl br cl dr fl gl gr kr pl sk sn sp st tr vl zw".split()
_VOWELS = "a e i o u".split()
_CODAS = "b ck ft lp mb nt rk rv sp x".split()


def other_captions(pairs: Sequence[Pair]) -> list[Pair]:
    """Return each image with the caption of a following pair that, if possible, names none of its objects."""
    partners = _partners(
        pairs,
        lambda pair, candidate: not _named(candidate) & _depicted(pair),
        "captions",
        lambda pair, candidate: pair.caption != candidate.caption,
    )
    return [Pair(pair.image, pairs[partner].caption) for pair, partner in zip(pairs, partners, strict=True)]


def other_images(pairs: Sequence[Pair]) -> list[Pair]:
    """Return each caption with the image of a following pair that, if possible, shows none of its objects."""
    partners = _partners(
        pairs,
        lambda pair, candidate: not _named(pair) & _depicted(candidate),
        "images",
        lambda pair, candidate: pair.image.pil_image.tobytes() != candidate.image.pil_image.tobytes(),
    )
    return [Pair(pairs[partner].image, pair.caption) for pair, partner in zip(pairs, partners, strict=True)]


def nonsense_captions(pairs: Sequence[Pair], seed: int) -> list[Pair]:
    """Return each image with as many made-up words as its caption has."""
    draws = np.random.default_rng(seed)
    return [Pair(pair.image, " ".join(_word(draws) for _ in pair.caption.split())) for pair in pairs]


def wordings(pairs: Sequence[Pair]) -> list[tuple[str, list[Pair]]]:
    """Return each template of the target ``ensemble``, except ``{}``, with the pairs that are reworded by it."""
    templates = [template for template in find("targets", "ensemble")().templates if template != "{}"]
    return [
        (template, [replace(pair, caption=template.format(pair.caption), objects=(), absent=()) for pair in pairs])
        for template in templates
    ]


def caption_words(template: str, reworded: Map, plain: Map) -> Map | None:
    """Return the scores of the caption's words in a reworded caption."""
    skipped = len(template.split("{}")[0].split())
    end = skipped + len(plain.words)
    if reworded.words[skipped:end] != plain.words:
        return None
    return Map(reworded.scores[skipped:end], plain.words)


def _partners(
    pairs: Sequence[Pair], best: Callable[[Pair, Pair], bool], noun: str, differs: Callable[[Pair, Pair], bool]
) -> list[int]:
    """Return, for each pair, the index of the next pair (cyclic) that differs, and preferably satisfies ``best``."""
    partners = []
    for index, pair in enumerate(pairs):
        order = [(index + step) % len(pairs) for step in range(1, len(pairs))]
        candidates = [candidate for candidate in order if differs(pair, pairs[candidate])]
        if not candidates:
            raise BadInput(f"all {len(pairs)} {noun} are the same: an audit needs at least two different {noun}")
        partners.append(next((candidate for candidate in candidates if best(pair, pairs[candidate])), candidates[0]))
    return partners


def _depicted(pair: Pair) -> set[str]:
    return {object_.name for object_ in pair.objects}


def _named(pair: Pair) -> set[str]:
    return {object_.name for object_ in pair.objects if object_.spans}


def _word(draws: np.random.Generator) -> str:
    parts = [draws.choice(_ONSETS), draws.choice(_VOWELS), draws.choice(_CODAS)]
    return "".join(map(str, parts + parts[1:] if draws.random() < 0.5 else parts))
