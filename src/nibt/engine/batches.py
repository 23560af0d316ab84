"""The loop over batches: both towers are traced once per batch, and a method explains each side.

A benchmark explains each batch with many methods, which share what is computed once (``BatchCache``).

Explanations, metrics, audits and ROAR use ``explain_batches``. Jobs prepare their batches in another thread and call
``explain_batch`` for each.
"""

import time
from collections import deque
from collections.abc import Callable, Hashable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F

from nibt.core.side import Side
from nibt.data.pair import Pair, SameModalityPair
from nibt.engine.encode import encode, groups_of, halve_batches, is_out_of_memory
from nibt.engine.spec import ExplanationSpec
from nibt.errors import BadInput, BadOption
from nibt.models._trace import Inputs, Trace
from nibt.models.base import Model
from nibt.results.attribution import Attribution
from nibt.results.explanation import shortened
from nibt.torch_modes import plain_torch
from nibt.types import Modality

AnyPair = Pair | SameModalityPair


@dataclass(frozen=True)
class TimedTrace:
    """A trace with hidden states from the layer ``lowest`` on, and how long it took to compute.

    The time counts for each method that uses the trace, so that it does not depend on which method came first.
    """

    trace: Trace
    lowest: int
    seconds: float


class BatchCache:
    """Values that depend on the model and on the pairs of a batch, but not on the method.

    Whoever explains the same pairs with several methods makes a cache, passes it to each call, and drops it together
    with the pairs. It has one trace per batch and side, so it needs the memory of the traces of the pairs.
    """

    def __init__(self, model: Model) -> None:
        self.model = model
        self._values: dict[tuple, Any] = {}
        self._pairs: dict[int, Any] = {}

    def once(self, pairs: Sequence[Any], key: Hashable, compute: Callable[[], Any]) -> Any:
        """Return the value of a batch, or that of the model without pairs; the first call with this key computes it."""
        batch_key = self._key(pairs, key)
        if batch_key not in self._values:
            self._values[batch_key] = compute()
        return self._values[batch_key]

    def trace(self, pairs: Sequence[Any], side: Hashable, lowest: int) -> TimedTrace | None:
        """Return the trace of one side of a batch from a layer on, if one with as many layers is kept.

        It is made from that trace, with the same bits.
        """
        kept: TimedTrace | None = self._values.get(self._key(pairs, ("trace", side)))
        if kept is None or kept.lowest > lowest:
            return None
        return TimedTrace(kept.trace.above(lowest), lowest, kept.seconds)

    def keep(self, pairs: Sequence[Any], side: Hashable, timed: TimedTrace) -> None:
        """Keep the trace of one side of a batch, in place of one with fewer layers."""
        self._values[self._key(pairs, ("trace", side))] = timed

    def forget(self, pairs: Sequence[Any]) -> None:
        """Drop all values of a batch, which did not fit into memory."""
        identity = tuple(map(id, pairs))
        self._values = {key: value for key, value in self._values.items() if key[0] != identity}

    def forget_pairs(self) -> None:
        """Drop the values of all batches, and keep those of the model."""
        self._values = {key: value for key, value in self._values.items() if not key[0]}
        self._pairs = {}

    def _key(self, pairs: Sequence[Any], key: Hashable) -> tuple:
        self._pairs |= {id(pair): pair for pair in pairs}  # while they are kept, no other object has their identity
        return tuple(map(id, pairs)), key


@dataclass(frozen=True)
class PreparedBatch:
    """Pairs that go through the towers together, with the inputs of both towers.

    An image or a caption that occurs in several pairs is prepared once.
    """

    pairs: Sequence[AnyPair]
    inputs: tuple[Inputs, Inputs]
    rows: tuple[list[int], list[int]]  # for each side, the row of the inputs that belongs to each pair

    @classmethod
    @plain_torch()
    def of(cls, spec: ExplanationSpec, pairs: Sequence[AnyPair]) -> "PreparedBatch":
        """Prepare pairs that may share a batch: resize their images and tokenize their captions."""
        inputs, rows = [], []
        for items, modality in zip(zip(*(pair.items for pair in pairs), strict=True), spec.modalities, strict=True):
            keys = [item if isinstance(item, str) else id(item) for item in items]
            unique = dict(zip(keys, items, strict=True))
            inputs.append(spec.model.tower(modality).prepare(list(unique.values())))
            rows.append(list(map(list(unique).index, keys)))
        return cls(pairs, (inputs[0], inputs[1]), (rows[0], rows[1]))

    def take(self, indices: Sequence[int]) -> "PreparedBatch":
        """Return the batch of the pairs at the indices."""
        taken = [[rows[index] for index in indices] for rows in self.rows]
        unique = [list(dict.fromkeys(rows)) for rows in taken]
        first, second = (inputs.take(rows) for inputs, rows in zip(self.inputs, unique, strict=True))
        first_rows, second_rows = (list(map(kept.index, rows)) for kept, rows in zip(unique, taken, strict=True))
        return PreparedBatch([self.pairs[index] for index in indices], (first, second), (first_rows, second_rows))


@dataclass(frozen=True)
class ExplainedBatch:
    """The sides of a batch, with their attributions: None for a side not explained.

    They are in the order of the pair; last comes that of what the pairs are compared with, if it is explained.
    """

    indices: Sequence[int]  # the positions of the pairs in the call
    pairs: Sequence[AnyPair]
    sides: tuple[Side, ...]
    attributions: tuple[Attribution | None, ...]
    seconds: tuple[float, ...]  # of the method
    encoding_seconds: float  # of the forward passes through both towers, even if another method made them


def explain_batches(
    spec: ExplanationSpec,
    pairs: Sequence[AnyPair],
    size: int,
    modalities: Sequence[Modality] = ("image", "text"),
    cache: BatchCache | None = None,
) -> Iterator[ExplainedBatch]:
    """Explain pairs batch by batch. If memory runs out, the batches are halved, with a warning in the log."""
    if len(pairs) != 1:
        check_words(spec.model, pairs)
    queue = deque([[0]] if len(pairs) == 1 else batch_indices(spec, pairs, size))
    while queue:
        indices = queue.popleft()
        batch_pairs = [pairs[index] for index in indices]
        try:
            batch = explain_batch(spec, batch_pairs, modalities, cache)
        except Exception as error:
            if cache and is_out_of_memory(error):
                cache.forget(batch_pairs)
            halve_batches(error, indices, queue)
        else:
            yield replace(batch, indices=indices)


def check_words(model: Model, pairs: Sequence[AnyPair]) -> None:
    """Check that the tokenizer finds a word in each caption, before any pair is explained."""
    captions = dict.fromkeys(item for pair in pairs for item in pair.items if isinstance(item, str))
    lacking = [repr(caption) for caption in captions if not any(model.text.tokens(caption).explained)]
    if lacking:
        raise BadInput(
            f"the model's tokenizer finds no word in {len(lacking)} of {len(captions)} captions "
            f"({shortened(lacking)}): leave them out, or use nibt batch, which goes on with the other rows"
        )


def _check_differences(spec: ExplanationSpec, pairs: Sequence[AnyPair]) -> None:
    """Check that nothing is compared with what is the same for the model, since its map would be 0."""
    options, read = spec.record["target"]["options"], spec.model.text.tokens
    for image in [pair.items[0] for pair in pairs] if spec.origin else ():
        if not isinstance(image, str) and spec.origin and image.size != spec.origin.size:
            sizes = " and ".join("{} x {}".format(*each.size) for each in (image, spec.origin))
            raise BadOption(
                f"the baseline against needs two images of one size (got {sizes} pixels): resize one, or leave the "
                "baseline out"
            )
    others = {read(caption).ids for caption in options.get("against", ())} | {*options.get("against_images_hash", ())}
    for item in (item for pair in pairs for item in pair.items):
        if (read(item).ids if isinstance(item, str) else item.digest) in others:
            name = f"caption {item!r}" if isinstance(item, str) else f"image {item.source}"
            raise BadInput(f"the {name} is compared with itself: give another one")


@plain_torch()
def explain_batch(
    spec: ExplanationSpec,
    pairs: Sequence[AnyPair] | PreparedBatch,
    modalities: Sequence[Modality] = ("image", "text"),
    cache: BatchCache | None = None,
) -> ExplainedBatch:
    """Explain a batch: trace both towers once, and explain each side by its score with the other side."""
    if isinstance(pairs, PreparedBatch):
        prepared = pairs
    elif cache is None:
        prepared = PreparedBatch.of(spec, pairs)
    else:
        prepared = cache.once(pairs, ("inputs", spec.modalities), partial(PreparedBatch.of, spec, pairs))
    if spec.record["target"]["name"] == "difference":
        _check_differences(spec, prepared.pairs)
    sides, encoding_seconds = _sides(spec, prepared, cache)
    devices = {inputs.values.device for inputs in prepared.inputs}
    attributions, seconds = [], []
    for side in sides:
        started, modality = clock(devices), side.trace.tower.modality
        attributions.append(spec.methods[modality](side) if modality in modalities else None)
        seconds.append(clock(devices) - started)
    indices = range(len(prepared.pairs))
    return ExplainedBatch(indices, prepared.pairs, sides, tuple(attributions), tuple(seconds), encoding_seconds)


@plain_torch()
def trace_sides(spec: ExplanationSpec, pairs: Sequence[AnyPair]) -> tuple[Side, ...]:
    """Trace both towers on pairs that may share a batch, and return the two sides in the order of the pair."""
    return _sides(spec, PreparedBatch.of(spec, pairs), None)[0]


@plain_torch()
def batch_group(spec: ExplanationSpec, pair: AnyPair) -> Hashable:
    """Return a key that is equal for pairs that may share a batch."""
    sides = zip(map(spec.model.tower, spec.modalities), pair.items, strict=True)
    return tuple(tower.group(item) for tower, item in sides)


def batch_indices(spec: ExplanationSpec, pairs: Sequence[AnyPair], size: int) -> Iterator[list[int]]:
    """Yield the indices of the pairs of each batch, at most ``size`` of them.

    If there are several batches, the pairs of one image stay together, since the image is traced once for all of them.
    Other pairs are sorted by length to reduce padding.
    """
    order = list(range(len(pairs)))
    if len(pairs) > size:
        towers = [spec.model.tower(modality) for modality in spec.modalities]
        lengths = [tuple(tower.length(item) for tower, item in zip(towers, pair.items, strict=True)) for pair in pairs]
        keys = [item if isinstance(item, str) else id(item) for item, _ in (pair.items for pair in pairs)]
        order = batch_order(keys, lengths)
    for places in groups_of([batch_group(spec, pairs[index]) for index in order], size):
        yield [order[place] for place in places]


def batch_order(keys: Sequence[Hashable], lengths: Sequence[Any]) -> list[int]:
    """Return the order of pairs in batches: by length; if keys repeat, first by the key's first place."""
    firsts = {key: number for number, key in enumerate(dict.fromkeys(keys))}
    repeat = len(firsts) < len(keys)
    return sorted(range(len(keys)), key=lambda index: (firsts[keys[index]] if repeat else 0, lengths[index]))


def _sides(spec: ExplanationSpec, prepared: PreparedBatch, cache: BatchCache | None) -> tuple[tuple[Side, ...], float]:
    """Trace both towers, each image or caption once, and return the sides, and the time of the forward passes."""
    devices, traces, seconds = {inputs.values.device for inputs in prepared.inputs}, [], 0.0
    for position, (modality, inputs) in enumerate(zip(spec.modalities, prepared.inputs, strict=True)):
        rows, lowest = prepared.rows[position], spec.methods[modality].lowest
        timed = cache.trace(prepared.pairs, position, lowest) if cache else None
        if timed is None:
            started = clock(devices)
            trace = spec.model.tower(modality).trace(inputs, lowest)
            trace = trace if len(inputs.values) == len(rows) else trace.take(rows)
            timed = TimedTrace(trace, lowest, clock(devices) - started)
            if cache:
                cache.keep(prepared.pairs, position, timed)
        traces.append(timed.trace)
        seconds += timed.seconds
    others = [trace.embedding.detach() for trace in reversed(traces)]
    if "image" in spec.scores and spec.scores["image"].target.rewords:
        started = clock(devices)
        captions, wordings = [str(pair.items[1]) for pair in prepared.pairs], spec.scores["image"].target.wordings
        if any(wordings(caption) != [caption] for caption in captions):  # their mean embeddings are compared with
            means = [F.normalize(encode(spec.model.text, wordings(caption)), dim=-1).mean(0) for caption in captions]
            others[0] = torch.stack(means).detach()
        seconds += clock(devices) - started
    modalities, added = list(spec.modalities), None
    if (compared := spec.against or spec.origin) is not None:
        started, tower = clock(devices), spec.model.tower("text" if isinstance(compared, str) else "image")
        lowest = spec.methods[tower.modality].lowest
        added = tower.trace(tower.prepare([compared]), lowest).take([0] * len(prepared.pairs))
        seconds += clock(devices) - started
        if spec.against is not None:
            traces.append(added)
            others.append(others[spec.modalities.index(tower.modality)])
            modalities.append(tower.modality)
    sides = tuple(
        Side(spec.model, trace, replace(spec.scores[modality], other=partner), spec.memory)
        for modality, trace, partner in zip(modalities, traces, others, strict=True)
    )
    return (replace(sides[0], origin=added), *sides[1:]) if spec.origin else sides, seconds


def clock(devices: Iterable[torch.device]) -> float:
    """Return the time in seconds, after the accelerators among devices have computed what they were given."""
    if any(device.type != "cpu" for device in devices) and torch.accelerator.is_available():
        torch.accelerator.synchronize()
    return time.perf_counter()
