"""The loop over batches: both towers are traced once per batch, and a method explains each side.

A benchmark explains each batch with many methods, which share what is computed once (``BatchCache``).

Explanations, metrics, audits and ROAR use ``explain_batches``. Jobs prepare their batches in another thread and call
``explain_batch`` for each.
"""

import json
import time
from collections.abc import Callable, Hashable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, TypeVar

import torch
import torch.nn.functional as F
from jaxtyping import Bool
from torch import Tensor

from nibt.core.side import Side
from nibt.data.images import ImageInput
from nibt.data.pair import AnyPair
from nibt.engine.encode import encode, groups_of, is_out_of_memory, most_together, within_memory
from nibt.engine.spec import ExplanationSpec
from nibt.errors import BadInput, BadOption
from nibt.models._inputs import Inputs
from nibt.models._tower import Tower, Trace
from nibt.models.base import Model
from nibt.registry import find
from nibt.results.attribution import Attribution
from nibt.results.explanation import shortened
from nibt.torch_modes import plain_torch
from nibt.types import Embedding, Modality

_Value = TypeVar("_Value")


@dataclass(frozen=True)
class TimedTrace:
    """A trace with hidden states from the layer ``lowest`` on, and how long it took to compute.

    The time counts for each method that uses the trace, so that it does not depend on which method came first.
    """

    trace: Trace
    lowest: int
    seconds: float


class ModelCache:
    """Values that depend on the model, but not on pairs or the method."""

    def __init__(self) -> None:
        self._values: dict[Hashable, Any] = {}

    def once(self, key: Hashable, compute: Callable[[], _Value]) -> _Value:
        """Return a value, which the first call with this key computes."""
        if key not in self._values:
            self._values[key] = compute()
        return self._values[key]


class BatchCache:
    """Values that depend on the model and on the pairs of a batch, but not on the method.

    Whoever explains the same pairs with several methods makes a cache, passes it to each call, and drops it together
    with the pairs. It has one trace per batch and side, so it needs the memory of the traces of the pairs.
    """

    def __init__(self, model: Model, of_model: ModelCache | None = None) -> None:
        self.model = model
        self.of_model = of_model or ModelCache()
        self._values: dict[tuple, Any] = {}
        self._traces: dict[tuple, TimedTrace] = {}
        self._pairs: dict[int, AnyPair] = {}

    def once(self, pairs: Sequence[AnyPair], key: Hashable, compute: Callable[[], _Value]) -> _Value:
        """Return the value of a batch; the first call with this key computes it."""
        batch_key = self._key(pairs, key)
        if batch_key not in self._values:
            self._values[batch_key] = compute()
        return self._values[batch_key]

    def attribution(self, pairs: Sequence[AnyPair], key: Hashable, compute: Callable[[], Attribution]) -> Attribution:
        """Return the attribution of a side of a batch; it is computed anew, since methods are timed."""
        return compute()

    def embedding(self, pairs: Sequence[AnyPair], position: int, modality: Modality) -> Embedding | None:
        """Return the embeddings of the first or second items of the pairs, if they are kept without a trace."""
        return None

    def trace(self, pairs: Sequence[AnyPair], side: int, lowest: int) -> TimedTrace | None:
        """Return the trace of one side of a batch from a layer on, if one with as many layers is kept.

        It is made from that trace, with the same bits. The items of the other side may be others.
        """
        timed = self._traces.get(self._trace_key(pairs, side))
        if timed is None or timed.lowest > lowest:
            return None
        return TimedTrace(timed.trace.above(lowest), lowest, timed.seconds)

    def keep(self, pairs: Sequence[AnyPair], side: int, timed: TimedTrace) -> TimedTrace:
        """Keep the trace of one side of a batch, in place of one with fewer layers, and return it."""
        self._traces[self._trace_key(pairs, side)] = timed
        return timed

    def forget(self, pairs: Sequence[AnyPair]) -> None:
        """Drop all values of a batch, which did not fit into memory."""
        identity = tuple(map(id, pairs))
        self._values = {key: value for key, value in self._values.items() if key[0] != identity}
        for side in (0, 1):
            self._traces.pop(self._trace_key(pairs, side), None)

    def _key(self, pairs: Sequence[AnyPair], key: Hashable) -> tuple:
        self._hold(pairs)
        return tuple(map(id, pairs)), key

    def _trace_key(self, pairs: Sequence[AnyPair], side: int) -> tuple:
        self._hold(pairs)
        return side, tuple(item_key(pair.items[side]) for pair in pairs)

    def _hold(self, pairs: Sequence[AnyPair]) -> None:
        """Keep pairs alive: meanwhile, no other object has their identity."""
        self._pairs |= {id(pair): pair for pair in pairs}


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
        first_inputs, first_rows = _prepared([pair.items[0] for pair in pairs], spec.model.tower(spec.modalities[0]))
        second_inputs, second_rows = _prepared([pair.items[1] for pair in pairs], spec.model.tower(spec.modalities[1]))
        return cls(pairs, (first_inputs, second_inputs), (first_rows, second_rows))

    @property
    def devices(self) -> set[torch.device]:
        """The devices that the towers compute on."""
        return {inputs.values.device for inputs in self.inputs}

    def take(self, indices: Sequence[int]) -> "PreparedBatch":
        """Return the batch of the pairs at the indices."""
        first_inputs, first_rows = _taken(self.inputs[0], self.rows[0], indices)
        second_inputs, second_rows = _taken(self.inputs[1], self.rows[1], indices)
        pairs = [self.pairs[index] for index in indices]
        return PreparedBatch(pairs, (first_inputs, second_inputs), (first_rows, second_rows))


def item_key(item: ImageInput | str) -> Hashable:
    """Return what tells images and captions apart while they exist: a caption itself, and the identity of an image."""
    return item if isinstance(item, str) else id(item)


def _prepared(items: Sequence[ImageInput | str], tower: Tower) -> tuple[Inputs, list[int]]:
    """Prepare each image or caption once, and return the row of each item."""
    keys = list(map(item_key, items))
    unique = dict(zip(keys, items, strict=True))
    places = {key: row for row, key in enumerate(unique)}
    return tower.prepare(list(unique.values())), [places[key] for key in keys]


def _taken(inputs: Inputs, rows: Sequence[int], indices: Sequence[int]) -> tuple[Inputs, list[int]]:
    """Return the inputs of the pairs at the indices, and the row of each of these pairs."""
    wanted = [rows[index] for index in indices]
    unique = list(dict.fromkeys(wanted))
    return inputs.take(unique), [unique.index(row) for row in wanted]


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
    batches: Sequence[Sequence[int]] | None = None,
) -> Iterator[ExplainedBatch]:
    """Explain pairs batch by batch. If memory runs out, the batches are halved, with a warning in the log.

    ``batches`` are the indices of the pairs of each batch; None are those of ``batch_indices``.
    """
    if len(pairs) != 1:  # the tower refuses the caption of a single pair before anything is computed
        check_words(spec.model, pairs)

    def explained(indices: Sequence[int]) -> ExplainedBatch:
        batch_pairs = [pairs[index] for index in indices]
        try:
            return explain_batch(spec, batch_pairs, modalities, cache)
        except Exception as error:
            # what the cache has of this batch would take the memory that its halves need
            if cache and is_out_of_memory(error):
                cache.forget(batch_pairs)
            raise

    if batches is None:
        batches = [[0]] if len(pairs) == 1 else list(batch_indices(spec, pairs, size))
    for indices, batch in within_memory(batches, explained):
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
    """Check that nothing is compared with what is the same for the model: its map would be 0, or it would count twice.

    The mean of a set of captions or images may include that of the pair. Among several with which it is compared one by
    one, it is left out.
    """
    options = spec.record["target"]["options"]
    target = find("targets", spec.record["target"]["name"])
    count = len(options.get("against", ())) + len(options.get("against_images", ()))
    is_image_with_caption = spec.modalities[0] != spec.modalities[1]
    leaves_own_out = target.others == "some" and count != 1 and (target.averages or is_image_with_caption)
    if target.others == "none" or leaves_own_out:
        return

    if spec.origin is not None:
        for pair in pairs:
            _check_size(pair.items[0], spec.origin)

    compared = {*_compared_keys(spec, "text"), *_compared_keys(spec, "image")}
    for item in (item for pair in pairs for item in pair.items if _key(spec, item) in compared):
        named = f"the caption {item!r}" if isinstance(item, str) else f"the image {item.source}"
        raise BadInput(f"{named} is compared with itself: give another one")


def _key(spec: ExplanationSpec, item: ImageInput | str) -> Hashable:
    """Return what is equal for captions, or for images, that are the same for the model."""
    return spec.model.text.tokens(item).ids if isinstance(item, str) else item.digest


def _compared_keys(spec: ExplanationSpec, modality: Modality) -> list[Hashable]:
    """Return the keys of the captions or of the images that pairs are compared with."""
    options = spec.record["target"]["options"]
    if modality == "text":
        return [_key(spec, caption) for caption in options.get("against", ())]
    return list(options.get("against_images_hash", ()))


def _check_size(image: ImageInput | str, origin: ImageInput) -> None:
    """Check that a path can lead from one image to another."""
    if isinstance(image, str) or image.size == origin.size:
        return
    sizes = f"{image.size[0]} x {image.size[1]} and {origin.size[0]} x {origin.size[1]}"
    raise BadOption(
        f"the baseline against needs two images of one size (got {sizes} pixels): resize one, or leave the baseline out"
    )


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

    _check_differences(spec, prepared.pairs)

    sides, encoding_seconds = _sides(spec, prepared, modalities, cache)
    attributions = []
    seconds = []
    for position, side in enumerate(sides):
        started = clock(prepared.devices)
        is_asked = side.trace.tower.modality in modalities
        attributions.append(_attribution(spec, prepared, position, side, cache) if is_asked else None)
        seconds.append(clock(prepared.devices) - started)

    return ExplainedBatch(
        indices=range(len(prepared.pairs)),
        pairs=prepared.pairs,
        sides=sides,
        attributions=tuple(attributions),
        seconds=tuple(seconds),
        encoding_seconds=encoding_seconds,
    )


@plain_torch()
def trace_sides(spec: ExplanationSpec, pairs: Sequence[AnyPair]) -> tuple[Side, ...]:
    """Trace both towers on pairs that may share a batch, and return the two sides in the order of the pair."""
    return _sides(spec, PreparedBatch.of(spec, pairs), spec.modalities, None)[0]


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
        keys = [item_key(pair.items[0]) for pair in pairs]
        order = batch_order(keys, lengths)

    for places in groups_of([batch_group(spec, pairs[index]) for index in order], size):
        group = [order[place] for place in places]
        for part in parts_of_batch(spec, [pairs[index] for index in group]):
            yield group[part]


def parts_of_batch(spec: ExplanationSpec, pairs: Sequence[AnyPair]) -> Iterator[slice]:
    """Yield the parts of a batch that should be explained together: on a processor smaller ones, if images are large.

    Pairs of one image stay together, since the image is traced once for all of them.
    """
    images = [pair.items[0] for pair in pairs]
    few = len(pairs)
    if len(set(map(item_key, images))) == len(pairs):
        few = most_together(spec.model.image, images, few)
    for first in range(0, len(pairs), few):
        yield slice(first, first + few)


def batch_order(keys: Sequence[Hashable], lengths: Sequence[int] | Sequence[tuple[int, ...]]) -> list[int]:
    """Return the order of pairs in batches: by length; if keys repeat, first by the key's first place."""
    ranks = {key: rank for rank, key in enumerate(dict.fromkeys(keys))}
    repeat = len(ranks) < len(keys)
    return sorted(range(len(keys)), key=lambda index: (ranks[keys[index]] if repeat else 0, lengths[index]))


def _attribution(
    spec: ExplanationSpec, prepared: PreparedBatch, position: int, side: Side, cache: BatchCache | None
) -> Attribution:
    """Explain a side with its method, or return what the cache has."""
    explain = partial(spec.methods[side.trace.tower.modality], side)
    if cache is None:
        return explain()

    request = json.dumps(spec.record, sort_keys=True, default=repr)  # its dictionaries and lists are no keys
    return cache.attribution(prepared.pairs, (position, request), explain)


def _sides(
    spec: ExplanationSpec, prepared: PreparedBatch, modalities: Sequence[Modality], cache: BatchCache | None
) -> tuple[tuple[Side, ...], float]:
    """Trace both towers, each image or caption once, and return the sides, and the time of the forward passes."""
    modalities_of_sides: list[Modality] = list(spec.modalities)
    own = [_own_among_others(spec, prepared.pairs, position) for position in (0, 1)]
    first, second = (_timed_trace(spec, prepared, position, modalities, cache) for position in (0, 1))
    traces = [first.trace, second.trace]

    # each side is scored by the embeddings of the other one
    others = [_other_embedding(spec, prepared, 1, second, cache), _other_embedding(spec, prepared, 0, first, cache)]

    started = clock(prepared.devices)
    if "image" in spec.scores and spec.scores["image"].target.rewords:
        others[0] = _reworded(spec, prepared.pairs, others[0])

    # what each pair is compared with stands in for the item of its modality, and is scored by the same other item
    if spec.against is not None:
        modality: Modality = "text" if isinstance(spec.against, str) else "image"
        modalities_of_sides.append(modality)
        own.append(None)
        traces.append(_same_trace(spec, spec.against, modality, len(prepared.pairs)))
        others.append(others[spec.modalities.index(modality)])

    sides = []
    for modality, trace, other, own_of_side in zip(modalities_of_sides, traces, others, own, strict=True):
        score = replace(spec.scores[modality], other=other, own=own_of_side)
        sides.append(Side(spec.model, trace, score, spec.memory))

    if spec.origin is not None:
        origin = _same_trace(spec, spec.origin, "image", len(prepared.pairs))
        sides[0] = replace(sides[0], origin=origin)

    return tuple(sides), first.seconds + second.seconds + clock(prepared.devices) - started


def _own_among_others(
    spec: ExplanationSpec, pairs: Sequence[AnyPair], position: int
) -> Bool[Tensor, "batch other"] | None:
    """Return which of the items that a side is compared with are the other item of each pair; None if none is."""
    score = spec.scores[spec.modalities[position]]
    compares_one_by_one = score.target.others == "some" and not score.target.averages
    if score.others is None or not compares_one_by_one:
        return None

    compared = _compared_keys(spec, spec.modalities[1 - position])
    keys = [_key(spec, pair.items[1 - position]) for pair in pairs]
    own = torch.tensor([[key == other for other in compared] for key in keys], dtype=torch.bool, device="cpu")
    if own.all(1).any():
        raise BadInput("a caption or an image is compared with itself alone: give another one to compare it with")
    return own if own.any() else None


def _timed_trace(
    spec: ExplanationSpec,
    prepared: PreparedBatch,
    position: int,
    modalities: Sequence[Modality],
    cache: BatchCache | None,
) -> TimedTrace:
    """Return the trace of the first or second items of the pairs, from the cache if it has one.

    Of a side that is not explained, the embeddings of the cache are enough.
    """
    modality = spec.modalities[position]
    if cache and modality not in modalities:
        embedding = cache.embedding(prepared.pairs, position, modality)
        if embedding is not None:
            inputs = prepared.inputs[position].take(prepared.rows[position])
            return TimedTrace(Trace.of_embedding(spec.model.tower(modality), inputs, embedding), 0, 0.0)

    tower = spec.model.tower(modality)
    lowest = min(spec.methods[modality].lowest, tower.depth)
    cached_trace = cache.trace(prepared.pairs, position, lowest) if cache else None
    if cached_trace is not None:
        return cached_trace

    inputs = prepared.inputs[position]
    rows = prepared.rows[position]
    started = clock(prepared.devices)
    trace = tower.trace(inputs, lowest)

    # an item of several pairs went through the tower once; without one, the rows are in the order of the pairs
    if len(inputs.values) != len(rows):
        trace = trace.take(rows)

    timed = TimedTrace(trace, lowest, clock(prepared.devices) - started)
    return cache.keep(prepared.pairs, position, timed) if cache else timed


def _other_embedding(
    spec: ExplanationSpec, prepared: PreparedBatch, position: int, timed: TimedTrace, cache: BatchCache | None
) -> Embedding:
    """Return the embeddings of the first or second items, with which the other ones are compared.

    They are those of the cache, if it has some, so that it does not matter which sides are explained.
    """
    cached = cache.embedding(prepared.pairs, position, spec.modalities[position]) if cache else None
    return timed.trace.embedding.detach() if cached is None else cached


def _reworded(spec: ExplanationSpec, pairs: Sequence[AnyPair], embeddings: Embedding) -> Embedding:
    """Return the mean embeddings of the wordings of each caption, in place of those of the captions."""
    wordings = spec.scores["image"].target.wordings
    captions = [str(pair.items[1]) for pair in pairs]
    if all(wordings(caption) == [caption] for caption in captions):
        return embeddings
    means = [F.normalize(encode(spec.model.text, wordings(caption)), dim=-1).mean(0) for caption in captions]
    return torch.stack(means).detach()


def _same_trace(spec: ExplanationSpec, item: ImageInput | str, modality: Modality, count: int) -> Trace:
    """Return the trace of one image or caption as if each of ``count`` pairs had it."""
    tower = spec.model.tower(modality)
    return tower.trace(tower.prepare([item]), spec.methods[modality].lowest).take([0] * count)


def clock(devices: Iterable[torch.device]) -> float:
    """Return the time in seconds, after the accelerators among devices have computed what they were given."""
    if any(device.type != "cpu" for device in devices) and torch.accelerator.is_available():
        torch.accelerator.synchronize()
    return time.perf_counter()
