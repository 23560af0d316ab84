"""Tests of ``nibt.engine.batches``: what methods share changes no bit of their results."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
import torch

import nibt
from nibt.data.objects import Object
from nibt.data.pair import Pair
from nibt.engine.batches import BatchCache, explain_batches
from nibt.engine.spec import Request, resolve
from nibt.errors import BadOption
from nibt.models._tower import Tower
from nibt.registry import MethodSpec
from nibt.results.records import Measurement
from tests import tiny
from tests.helpers import CHEAP, METHODS

METRICS = ("deletion", "insertion", "special_token_share", "pointing_game", "retrieval_after_removal")


def scene_pairs() -> list[Pair]:
    obj = Object("cat", (2, 2, 9, 9), None, ((0, 3),))
    return [Pair(tiny.image(seed=seed), caption, (obj,)) for seed, caption in enumerate(tiny.CAPTIONS[:3])]


def bits(rows: Sequence[Measurement]) -> list[tuple[Any, ...]]:
    """Return everything but the time, with NaN as a value that equals itself."""
    return [(row.item, row.side, row.label, np.array([row.value, *row.curve]).tobytes()) for row in rows]


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["clip", "own resnet"])
def test_measure_has_the_same_bits_with_a_cache_in_any_order_of_methods(kind: str) -> None:
    model, pairs = tiny.model(kind), scene_pairs()
    names = [name for name in METHODS if kind != "own resnet" or "attention" not in METHODS[name].needs]

    def measured(name: str, cache: BatchCache | None) -> list[tuple[Any, ...]]:
        return bits(nibt.measure(model, pairs, METRICS, name, cache=cache, **CHEAP.get(name, {})))

    alone = {name: measured(name, None) for name in names}
    for order in (names, names[::-1]):
        cache = BatchCache(model)
        for name in order:
            assert measured(name, cache) == alone[name], name


def count_traces(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, int]]:
    """Return a list that gets the side and the lowest layer of each trace."""
    calls: list[tuple[str, int]] = []
    trace = Tower.trace

    def counted(self: Tower, inputs: Any, lowest: int = 0) -> Any:
        calls.append((self.modality, lowest))
        return trace(self, inputs, lowest)

    monkeypatch.setattr(Tower, "trace", counted)
    return calls


def test_methods_share_the_trace_of_the_lowest_layer(monkeypatch: pytest.MonkeyPatch) -> None:
    model, pairs, cache = tiny.model("clip"), scene_pairs(), BatchCache(tiny.model("clip"))
    calls = count_traces(monkeypatch)
    for layer in (2, 1, 2, 1):
        spec = resolve(model, Request(MethodSpec("grad_cam", options={"layer": layer})))
        (batch,) = explain_batches(spec, pairs, 8, cache=cache)
        for side in batch.sides:
            kept = [number for number, stream in enumerate(side.trace.streams) if stream is not None]
            assert kept == list(range(layer, side.tower.depth + 1)), "as without a cache"
    assert calls == [("image", 2), ("text", 2), ("image", 1), ("text", 1)]


def test_batches_of_other_items_share_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """Images are the same if they are one object, captions if they are equal, both in the same order."""
    model, pairs, cache = tiny.model("clip"), scene_pairs(), BatchCache(tiny.model("clip"))
    calls, spec = count_traces(monkeypatch), resolve(model, Request(MethodSpec("ones")))
    for batch in (pairs, pairs[::-1], scene_pairs(), pairs[:2], pairs):
        list(explain_batches(spec, batch, 8, cache=cache))
    both = ["image", "text"]
    assert [side for side, _ in calls] == [*both, *both, "image", *both]


@pytest.mark.parametrize("kind", ["clip", "own resnet"])
def test_trace_above_a_layer_equals_a_trace_from_that_layer(kind: str) -> None:
    tower = tiny.model(kind).image
    inputs = tower.prepare([tiny.image(seed=seed) for seed in (1, 2)])
    whole = tower.trace(inputs)
    for lowest in range(tower.depth + 1):
        above, wanted = whole.above(lowest), tower.trace(inputs, lowest)
        assert torch.equal(above.embedding, wanted.embedding)
        for one, other in zip(above.streams, wanted.streams, strict=True):
            assert (one is None) == (other is None)
            assert one is None or (other is not None and torch.equal(one, other))


def test_time_of_a_shared_trace_counts_for_each_method() -> None:
    model, pairs, cache = tiny.model("clip"), scene_pairs(), BatchCache(tiny.model("clip"))
    for name in ("ones", "random"):
        (batch,) = explain_batches(resolve(model, Request(MethodSpec(name))), pairs, 8, cache=cache)
        kept = [cache.trace(pairs, position, tower.depth) for position, tower in enumerate(model.towers)]
        seconds = [timed.seconds for timed in kept if timed is not None]
        assert len(seconds) == 2
        assert min(seconds) > 0
        assert batch.encoding_seconds >= sum(seconds)


def test_measure_rejects_the_cache_of_another_model() -> None:
    with pytest.raises(BadOption, match="cache belongs to another"):
        nibt.measure(tiny.model("clip"), scene_pairs(), cache=BatchCache(tiny.model("siglip")))
