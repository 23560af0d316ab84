"""The loop over batches: both towers are traced once per batch, and a method explains each side.

Explanations, metrics, audits and ROAR use ``explain_batches``. Jobs prepare their batches in another thread and call
``explain_batch`` for each.
"""

import time
from collections import deque
from collections.abc import Hashable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F

from nibt.core.side import Side
from nibt.data.pair import Pair, SameModalityPair
from nibt.engine.batch_cache import BatchCache, TimedTrace
from nibt.engine.encode import encode, halve_batches
from nibt.engine.spec import ExplanationSpec
from nibt.models._devices import is_out_of_memory
from nibt.models._trace import Inputs
from nibt.results.attribution import Attribution
from nibt.torch_modes import plain_torch
from nibt.types import Embedding, Modality

AnyPair = Pair | SameModalityPair


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
            places = {key: row for row, key in enumerate(unique)}
            inputs.append(spec.model.tower(modality).prepare(list(unique.values())))
            rows.append([places[key] for key in keys])
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
    """The two sides of a batch in the order of the pair, with their attributions: None for a side not explained."""

    indices: Sequence[int]  # the positions of the pairs in the call
    pairs: Sequence[AnyPair]
    sides: tuple[Side, Side]
    attributions: tuple[Attribution | None, Attribution | None]
    seconds: tuple[float, float]  # of the method
    encoding_seconds: float  # of the forward passes through both towers, even if another method made them


def explain_batches(
    spec: ExplanationSpec,
    pairs: Sequence[AnyPair],
    size: int,
    modalities: Sequence[Modality] = ("image", "text"),
    cache: BatchCache | None = None,
) -> Iterator[ExplainedBatch]:
    """Explain pairs batch by batch. If memory runs out, the batches are halved, with a warning in the log."""
    queue = deque(batch_indices(spec, pairs, size))
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
    sides, encoding_seconds = _sides(spec, prepared, cache)
    devices = {inputs.values.device for inputs in prepared.inputs}
    attributions: list[Attribution | None] = [None, None]
    seconds = [0.0, 0.0]
    for position, (modality, side) in enumerate(zip(spec.modalities, sides, strict=True)):
        if modality in modalities:
            started = clock(devices)
            attributions[position] = spec.methods[modality](side)
            seconds[position] = clock(devices) - started
    first, second = attributions
    indices = range(len(prepared.pairs))
    return ExplainedBatch(indices, prepared.pairs, sides, (first, second), (seconds[0], seconds[1]), encoding_seconds)


@plain_torch()
def trace_sides(spec: ExplanationSpec, pairs: Sequence[AnyPair] | PreparedBatch) -> tuple[Side, Side]:
    """Trace both towers on pairs that may share a batch, and return the two sides in the order of the pair."""
    prepared = pairs if isinstance(pairs, PreparedBatch) else PreparedBatch.of(spec, pairs)
    return _sides(spec, prepared, None)[0]


@plain_torch()
def batch_group(spec: ExplanationSpec, pair: AnyPair) -> Hashable:
    """Return a key that is equal for pairs that may share a batch."""
    towers = [spec.model.tower(modality) for modality in spec.modalities]
    return tuple(tower.group(item) for tower, item in zip(towers, pair.items, strict=True))


def batch_indices(spec: ExplanationSpec, pairs: Sequence[AnyPair], size: int) -> Iterator[list[int]]:
    """Yield the indices of the pairs of each batch, at most ``size`` of them.

    If there are several batches, the pairs of one image stay together, since the image is traced once for all of them.
    Other pairs are sorted by length to reduce padding.
    """
    if len(pairs) == 1:
        yield [0]
        return
    order, towers = list(range(len(pairs))), [spec.model.tower(modality) for modality in spec.modalities]
    if len(pairs) > size:
        lengths = [tuple(tower.length(item) for tower, item in zip(towers, pair.items, strict=True)) for pair in pairs]
        firsts = [pair.items[0] for pair in pairs]
        order = batch_order([item if isinstance(item, str) else id(item) for item in firsts], lengths)
    groups: dict[Hashable, list[int]] = {}
    for index in order:
        key = tuple(tower.group(item) for tower, item in zip(towers, pairs[index].items, strict=True))
        groups.setdefault(key, []).append(index)
    for members in groups.values():
        yield from (members[first : first + size] for first in range(0, len(members), size))


def batch_order(keys: Sequence[Hashable], lengths: Sequence[Any]) -> list[int]:
    """Return the order of pairs in batches: by length; if keys repeat, first by the key's first place."""
    firsts = {key: number for number, key in enumerate(dict.fromkeys(keys))}
    repeat = len(firsts) < len(keys)
    return sorted(range(len(keys)), key=lambda index: (firsts[keys[index]] if repeat else 0, lengths[index]))


def _sides(spec: ExplanationSpec, prepared: PreparedBatch, cache: BatchCache | None) -> tuple[tuple[Side, Side], float]:
    """Trace both towers, each image or caption once, and return the two sides, and the time of the forward passes."""
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
    first, second = traces
    others = [second.embedding.detach(), first.embedding.detach()]
    if "image" in spec.scores and spec.scores["image"].target.rewords:
        started = clock(devices)
        others[0] = _wordings(spec, prepared.pairs, second.embedding).detach()
        seconds += clock(devices) - started
    sides = tuple(
        Side(spec.model, trace, replace(spec.scores[modality], other=other), spec.memory)
        for modality, trace, other in zip(spec.modalities, traces, others, strict=True)
    )
    return sides, seconds  # pyright: ignore


def _wordings(spec: ExplanationSpec, pairs: Sequence[AnyPair], embeddings: Embedding) -> Embedding:
    """Return the embeddings that the first side is compared with.

    They are those of the second side or, if the target rewords captions, their mean over the wordings of each caption.
    """
    if spec.modalities != ("image", "text") or not spec.scores["image"].target.rewords:
        return embeddings
    captions, wordings = [str(pair.items[1]) for pair in pairs], spec.scores["image"].target.wordings
    if all(wordings(caption) == [caption] for caption in captions):
        return embeddings
    means = [F.normalize(encode(spec.model.text, wordings(caption)), dim=-1).mean(0) for caption in captions]
    return torch.stack(means)


def clock(devices: Iterable[torch.device]) -> float:
    """Return the time in seconds, after the accelerators among devices have computed what they were given."""
    if any(device.type != "cpu" for device in devices) and torch.accelerator.is_available():
        torch.accelerator.synchronize()
    return time.perf_counter()
