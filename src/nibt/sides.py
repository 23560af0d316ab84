"""Both sides of a batch of pairs: each tower runs once, and each side is held against the other."""

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F

from nibt.models.base import Trace
from nibt.pair import Pair, Twins
from nibt.question import Question, batches, encode
from nibt.side import Side
from nibt.types import Embedding


def sides(question: Question, pairs: Sequence[Pair | Twins]) -> tuple[Side, Side]:
    """The two sides of pairs that may share a batch, as a question sees them, in the order of its places."""
    first, second = (_traced(question, pairs, place) for place in (0, 1))
    theres = _wordings(question, pairs, second.embedding), first.embedding
    return (
        Side(question.model, first, _score(question, 0, theres[0]), question.memory),
        Side(question.model, second, _score(question, 1, theres[1]), question.memory),
    )


def together(question: Question, pairs: Sequence[Pair | Twins], size: int) -> Iterator[list[int]]:
    """Indices of pairs that may share a batch: those of one group in both places, and of like length, so that little
    is padded where there are several batches.
    """
    towers = [question.model.tower(modality) for modality in question.places]

    def each(verb: str, pair: Pair | Twins) -> tuple[Any, ...]:
        return tuple(getattr(tower, verb)(item) for tower, item in zip(towers, pair.items, strict=True))

    order = range(len(pairs))
    if len(pairs) > size:
        lengths = [each("length", pair) for pair in pairs]
        order = sorted(order, key=lambda index: lengths[index])
    found = batches([each("group", pairs[index]) for index in order], size)
    return ([order[place] for place in some] for some in found)


def _traced(question: Question, pairs: Sequence[Pair | Twins], place: int) -> Trace:
    """One forward pass for a batch in which a picture or a caption may come again: each goes through once."""
    modality, items = question.places[place], [pair.items[place] for pair in pairs]
    tower, keys = question.model.tower(modality), [item if isinstance(item, str) else id(item) for item in items]
    places = {key: row for row, key in enumerate(dict.fromkeys(keys))}
    once = list(dict(zip(keys, items, strict=True)).values())
    lowest = min(getattr(question.methods[modality], "layer", (0,)))
    trace = tower.trace(tower.prepare(once), lowest)
    return trace if len(once) == len(items) else trace.take([places[key] for key in keys])


def _wordings(question: Question, pairs: Sequence[Pair | Twins], plain: Embedding) -> Embedding:
    """What stands for the seconds, seen from the firsts: their embeddings or, of captions seen from images, the means
    of several wordings.
    """
    if question.places != ("image", "text"):
        return plain
    captions, wordings = [str(pair.items[1]) for pair in pairs], question.targets["image"].wordings
    if all(wordings(caption) == [caption] for caption in captions):
        return plain
    return torch.stack([
        F.normalize(encode(question.model.text, wordings(caption)), dim=-1).mean(0) for caption in captions
    ])  # fmt: skip


def _score(question: Question, place: int, there: Embedding) -> Callable[[Embedding], torch.Tensor]:
    modality = question.places[place]
    return partial(question.targets[modality], there=there.detach(), setting=question.settings[modality])
