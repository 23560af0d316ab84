"""All images, or all captions, as a tower takes them, whole or with parts hidden, and any of them through a tower."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Int
from torch import Tensor

from nibt.evaluation.roar.removal import filled, removed_units
from nibt.models._trace import Inputs, Trace
from nibt.models.base import ImageTower, TextTower, Tower
from nibt.types import Embedding

Rows = Int[Tensor, " row"]


@dataclass(frozen=True)
class Group:
    """Items that may share a batch: their numbers, their inputs, and what of them is hidden (None: nothing)."""

    items: tuple[int, ...]
    inputs: Inputs
    removed: Bool[Tensor, "item ..."] | None = None

    def take(self, rows: Sequence[int]) -> "Group":
        """Some of them, by their places in the group."""
        removed = None if self.removed is None else self.removed[list(rows)]
        return Group(tuple(self.items[row] for row in rows), self.inputs.take(rows), removed)

    def parts(self, size: int) -> Iterator["Group"]:
        """Batches of nearly the same size; none is of one item, unless the group is."""
        count = max(1, -(-len(self.items) // max(2, size)))
        for rows in np.array_split(np.arange(len(self.items)), count):
            yield self.take(rows.tolist())

    def through(self, tower: Tower, work: Callable[[Inputs], Any]) -> Any:
        """What the work makes of the inputs, with what is hidden taken out of them."""
        if self.removed is None:
            return work(self.inputs)
        removed = self.removed.to(self.inputs.values.device)
        if isinstance(tower, ImageTower):
            return work(filled(tower, self.inputs, removed))
        assert isinstance(tower, TextTower)
        with tower.blend_to_padding((~removed).to(tower.example.dtype)):
            return work(self.inputs)


@dataclass(frozen=True)
class TowerInputs:
    """All items of one side, in groups."""

    groups: tuple[Group, ...]

    @classmethod
    def of(cls, tower: Tower, items: Sequence[Any]) -> "TowerInputs":
        """The items, whole. Captions are padded to the longest of all, so that any may share a batch."""
        keys = [tower.group(item) for item in items]
        members = [tuple(n for n, other in enumerate(keys) if other == key) for key in dict.fromkeys(keys)]
        return cls(tuple(Group(members, tower.prepare([items[n] for n in members])) for members in members))

    def without(self, tower: Tower, scores: Sequence[np.ndarray], percentile: int, seed: int) -> "TowerInputs":
        """The same items without what the scores are highest for."""
        return TowerInputs(
            tuple(
                replace(
                    group,
                    removed=removed_units(tower, group.inputs, [scores[n] for n in group.items], percentile, seed),
                )
                for group in self.groups
            )
        )


@dataclass(frozen=True)
class Streams:
    """All items of one side, as they enter a block: for each group its numbers and one trace, kept from there on."""

    groups: tuple[tuple[tuple[int, ...], Trace], ...]
    layer: int

    @classmethod
    def of(cls, tower: Tower, material: TowerInputs, layer: int, size: int) -> "Streams":
        """Trace the inputs down to a layer, in parts of at most ``size``."""
        return cls(tuple((group.items, _trace(tower, group, layer, size)) for group in material.groups), layer)


def collect(
    members: Sequence[tuple[int, ...]], items: Sequence[int], embed: Callable[[int, list[int]], Embedding]
) -> Embedding:
    """Return the embeddings of items in their order; ``embed`` takes the number of a group and positions in it."""
    places = {item: (number, place) for number, members in enumerate(members) for place, item in enumerate(members)}
    locations = [places[item] for item in items]
    parts, order = [], []
    for number in dict.fromkeys(number for number, _ in locations):
        wanted = [row for row, (other, _) in enumerate(locations) if other == number]
        parts.append(embed(number, [locations[row][1] for row in wanted]))
        order += wanted
    return torch.cat(parts)[torch.tensor(order).argsort().to(parts[0].device)]


def _trace(tower: Tower, group: Group, layer: int, size: int) -> Trace:
    """Trace a whole group, in parts; only what is needed from the layer on is kept."""
    parts = [
        (len(part.items), part.through(tower, lambda inputs: tower.trace(inputs, layer))) for part in group.parts(size)
    ]
    counts, traces = [count for count, _ in parts], [trace for _, trace in parts]
    calls = [
        _joined([trace.calls[number] for trace in traces], counts, tower.shared) if number >= layer else ((), {})
        for number in range(tower.depth)
    ]
    streams: list[Tensor | None] = [None] * (tower.depth + 1)
    streams[layer] = torch.cat([trace.streams[layer] for trace in traces])
    embedding = torch.cat([trace.embedding for trace in traces])
    return Trace(tower, group.inputs, embedding, tuple(calls), tuple(streams))


def _joined(values: Sequence[Any], counts: Sequence[int], shared: frozenset[str], name: str = "") -> Any:
    """Join an argument of a block over all parts.

    Values with a batch dimension are concatenated (the rule is in ``Trace``); all others are the same in each part.
    """
    value = values[0]
    if isinstance(value, Tensor):
        times = {len(value) / count for value, count in zip(values, counts, strict=True)} if value.ndim >= 3 else {0.5}
        follows = name not in shared and len(times) == 1 and times.pop() % 1 == 0
        return torch.cat(list(values)) if follows else value
    if isinstance(value, dict):
        return {key: _joined([value[key] for value in values], counts, shared, key) for key in value}
    if isinstance(value, tuple | list) and name not in shared:
        return type(value)(_joined(part, counts, shared) for part in zip(*values, strict=True))
    return value
