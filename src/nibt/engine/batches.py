"""Both sides of a batch of pairs: each tower runs once, and each side is held against the other."""

from collections.abc import Callable, Hashable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial

import torch
import torch.nn.functional as F

from nibt.core.side import Side
from nibt.data.images import ImageInput
from nibt.data.pair import Pair, SameModalityPair
from nibt.engine.spec import ExplanationSpec, batches, encode
from nibt.models._trace import Inputs, Trace
from nibt.torch_modes import plain_torch
from nibt.types import Embedding


@dataclass(frozen=True)
class PreparedBatch:
    """Pairs that go through the towers together, and what each tower is given of them: a picture or a caption that
    comes again once. ``rows`` says of each place which row of its inputs a pair has.
    """

    pairs: Sequence[Pair | SameModalityPair]
    inputs: tuple[Inputs, Inputs]
    rows: tuple[list[int], list[int]]

    @classmethod
    @plain_torch()
    def of(cls, question: ExplanationSpec, pairs: Sequence[Pair | SameModalityPair]) -> "PreparedBatch":
        """The inputs of pairs that may share a batch: pictures are scaled, captions become tokens."""
        (first, ones), (second, others) = (_inputs(question, pairs, place) for place in (0, 1))
        return cls(pairs, (first, second), (ones, others))

    def take(self, indices: Sequence[int]) -> "PreparedBatch":
        """Only these pairs."""
        chosen = [[rows[index] for index in indices] for rows in self.rows]
        once = [list(dict.fromkeys(rows)) for rows in chosen]
        first, second = (inputs.take(rows) for inputs, rows in zip(self.inputs, once, strict=True))
        ones, others = ([own.index(row) for row in rows] for own, rows in zip(once, chosen, strict=True))
        return PreparedBatch([self.pairs[index] for index in indices], (first, second), (ones, others))


@plain_torch()
def sides(question: ExplanationSpec, pairs: Sequence[Pair | SameModalityPair] | PreparedBatch) -> tuple[Side, Side]:
    """The two sides of pairs that may share a batch, as a question sees them, in the order of its places."""
    ready = pairs if isinstance(pairs, PreparedBatch) else PreparedBatch.of(question, pairs)
    first, second = (_traced(question, ready, place) for place in (0, 1))
    theres = _wordings(question, ready.pairs, second.embedding), first.embedding
    return (
        Side(question.model, first, _score(question, 0, theres[0]), question.memory),
        Side(question.model, second, _score(question, 1, theres[1]), question.memory),
    )


@plain_torch()
def group(question: ExplanationSpec, pair: Pair | SameModalityPair) -> Hashable:
    """Pairs of one group may share a batch."""
    towers = [question.model.tower(modality) for modality in question.places]
    return tuple(tower.group(item) for tower, item in zip(towers, pair.items, strict=True))


def batch_indices(
    question: ExplanationSpec, pairs: Sequence[Pair | SameModalityPair], size: int
) -> Iterator[list[int]]:
    """Indices of pairs that may share a batch: those of one group in both places.

    Where there are several batches, pairs of one first thing stay together, since it goes through once for all of them,
    and of the others those of like length, so that little is padded.
    """
    order = range(len(pairs))
    if len(pairs) > size:
        firsts = {key: place for place, key in enumerate(dict.fromkeys(_key(pair.items[0]) for pair in pairs))}
        alone = len(firsts) == len(pairs)
        lengths = [(0 if alone else firsts[_key(pair.items[0])], *_lengths(question, pair)) for pair in pairs]
        order = sorted(order, key=lambda index: lengths[index])
    found = batches([group(question, pairs[index]) for index in order], size)
    return ([order[place] for place in some] for some in found)


def _key(item: ImageInput | str) -> Hashable:
    """The same for what comes again."""
    return item if isinstance(item, str) else id(item)


def _lengths(question: ExplanationSpec, pair: Pair | SameModalityPair) -> Iterator[int]:
    for modality, item in zip(question.places, pair.items, strict=True):
        yield question.model.tower(modality).length(item)


def _inputs(
    question: ExplanationSpec, pairs: Sequence[Pair | SameModalityPair], place: int
) -> tuple[Inputs, list[int]]:
    """The inputs of one place, and the row of each pair in them."""
    items = [pair.items[place] for pair in pairs]
    keys = list(map(_key, items))
    places = {key: row for row, key in enumerate(dict.fromkeys(keys))}
    once = list(dict(zip(keys, items, strict=True)).values())
    return question.model.tower(question.places[place]).prepare(once), [places[key] for key in keys]


def _traced(question: ExplanationSpec, ready: PreparedBatch, place: int) -> Trace:
    """One forward pass for a batch in which a picture or a caption may come again: each goes through once."""
    modality, rows = question.places[place], ready.rows[place]
    lowest = min(getattr(question.methods[modality], "layer", (0,)))
    trace = question.model.tower(modality).trace(ready.inputs[place], lowest)
    return trace if len(ready.inputs[place]) == len(rows) else trace.take(rows)


def _wordings(question: ExplanationSpec, pairs: Sequence[Pair | SameModalityPair], plain: Embedding) -> Embedding:
    """What stands for the seconds, seen from the firsts: their embeddings or, of captions seen from images, the means
    of several wordings.
    """
    if question.places != ("image", "text"):
        return plain
    captions, wordings = [str(pair.items[1]) for pair in pairs], question.targets["image"].wordings
    if all(wordings(caption) == [caption] for caption in captions):
        return plain
    return torch.stack(
        [F.normalize(encode(question.model.text, wordings(caption)), dim=-1).mean(0) for caption in captions]
    )


def _score(question: ExplanationSpec, place: int, there: Embedding) -> Callable[[Embedding], torch.Tensor]:
    modality = question.places[place]
    return partial(question.targets[modality], there=there.detach(), setting=question.settings[modality])
