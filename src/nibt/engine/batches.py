"""The loop over batches: both towers are traced once per batch, and a method explains each side.

Explanations, metrics, audits and ROAR use ``explain_batches``. Jobs prepare their batches in another thread and call
``explain_batch`` for each.
"""

import time
from collections.abc import Hashable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F

from nibt.core.side import Side
from nibt.data.images import ImageInput
from nibt.data.pair import Pair, SameModalityPair
from nibt.engine.batch_cache import BatchCache, TimedTrace
from nibt.engine.encode import encode, groups_of
from nibt.engine.memory import within_memory
from nibt.engine.spec import ExplanationSpec
from nibt.models._devices import is_out_of_memory, synchronize
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
        (first, first_rows), (second, second_rows) = (_inputs(spec, pairs, position) for position in (0, 1))
        return cls(pairs, (first, second), (first_rows, second_rows))

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

    def explained(indices: Sequence[int]) -> ExplainedBatch:
        batch_pairs = [pairs[index] for index in indices]
        prepare = partial(PreparedBatch.of, spec, batch_pairs)
        prepared = cache.once(batch_pairs, ("inputs", spec.modalities), prepare) if cache else prepare()
        try:
            return explain_batch(spec, prepared, modalities, cache)
        except Exception as error:
            if cache and is_out_of_memory(error):
                cache.forget(batch_pairs)
            raise

    for indices, batch in within_memory(batch_indices(spec, pairs, size), explained):
        yield replace(batch, indices=indices)


@plain_torch()
def explain_batch(
    spec: ExplanationSpec,
    prepared: PreparedBatch,
    modalities: Sequence[Modality] = ("image", "text"),
    cache: BatchCache | None = None,
) -> ExplainedBatch:
    """Explain a batch: trace both towers once, and explain each side by its score with the other side."""
    sides, encoding_seconds = _sides(spec, prepared, cache)
    attributions: list[Attribution | None] = [None, None]
    seconds = [0.0, 0.0]
    for position, (modality, side) in enumerate(zip(spec.modalities, sides, strict=True)):
        if modality in modalities:
            started = _now(spec)
            attributions[position] = spec.methods[modality](side)
            seconds[position] = _now(spec) - started
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
    order = list(range(len(pairs)))
    if len(pairs) > size:
        towers = [spec.model.tower(modality) for modality in spec.modalities]
        lengths = [tuple(tower.length(item) for tower, item in zip(towers, pair.items, strict=True)) for pair in pairs]
        order = batch_order([_key(pair.items[0]) for pair in pairs], lengths)
    batches = groups_of([batch_group(spec, pairs[index]) for index in order], size)
    return ([order[number] for number in batch] for batch in batches)


def batch_order(keys: Sequence[Hashable], lengths: Sequence[Any]) -> list[int]:
    """Return the order of pairs in batches: by length; if keys repeat, first by the key's first place."""
    firsts = {key: number for number, key in enumerate(dict.fromkeys(keys))}
    repeat = len(firsts) < len(keys)
    return sorted(range(len(keys)), key=lambda index: (firsts[keys[index]] if repeat else 0, lengths[index]))


def _key(item: ImageInput | str) -> Hashable:
    """Return a key that is equal if the same image object or the same caption occurs again."""
    return item if isinstance(item, str) else id(item)


def _inputs(spec: ExplanationSpec, pairs: Sequence[AnyPair], position: int) -> tuple[Inputs, list[int]]:
    """Return the inputs of one side, without duplicates, and the row of each pair in them."""
    items = [pair.items[position] for pair in pairs]
    keys = list(map(_key, items))
    rows = {key: row for row, key in enumerate(dict.fromkeys(keys))}
    unique = list(dict(zip(keys, items, strict=True)).values())
    return spec.model.tower(spec.modalities[position]).prepare(unique), [rows[key] for key in keys]


def _sides(spec: ExplanationSpec, prepared: PreparedBatch, cache: BatchCache | None) -> tuple[tuple[Side, Side], float]:
    """Return the two sides in the order of the pair, and the time of their forward passes."""
    first, second = (_trace(spec, prepared, position, cache) for position in (0, 1))
    started = _now(spec)
    seen_by_first = _wordings(spec, prepared.pairs, second.trace.embedding)
    seconds = first.seconds + second.seconds + _now(spec) - started
    scores = [
        replace(spec.scores[modality], other=partner.detach())
        for modality, partner in zip(spec.modalities, (seen_by_first, first.trace.embedding), strict=True)
    ]
    sides = (
        Side(spec.model, first.trace, scores[0], spec.memory),
        Side(spec.model, second.trace, scores[1], spec.memory),
    )
    return sides, seconds


def _trace(spec: ExplanationSpec, prepared: PreparedBatch, position: int, cache: BatchCache | None) -> TimedTrace:
    """Trace one side in a single forward pass, in which each image or caption is computed once."""
    modality, rows, inputs = spec.modalities[position], prepared.rows[position], prepared.inputs[position]
    lowest = min(spec.methods[modality].layers, default=0)
    timed = cache.trace(prepared.pairs, position, lowest) if cache else None
    if timed is None:
        started = _now(spec)
        trace = spec.model.tower(modality).trace(inputs, lowest)
        trace = trace if len(inputs) == len(rows) else trace.take(rows)
        timed = TimedTrace(trace, lowest, _now(spec) - started)
        if cache:
            cache.keep(prepared.pairs, position, timed)
    return timed


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


def _now(spec: ExplanationSpec) -> float:
    """Return the time in seconds, after accelerators have finished."""
    synchronize(spec.model.image.example.device, spec.model.text.example.device)
    return time.perf_counter()
