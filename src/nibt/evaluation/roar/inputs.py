"""The inputs of a tower for all items of a side, with or without the units with the highest scores.

Pixels are replaced by the channel means of their image, and tokens by the embedding of the padding token. The number of
removed units depends only on the percentile, as if all scores were different (ROAR, Hooker et al., 2019, also removes a
fixed share). Equal scores are ordered by a random map of each item, resized to pixels in the same way, so that a
constant map removes the same units as a random map.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, TypeVar

import numpy as np
import torch
from jaxtyping import Bool, Int
from torch import Tensor

from nibt.core.perturbation import item_rng
from nibt.data.images import ImageInput
from nibt.models._inputs import Inputs
from nibt.models._text_tower import TextTower
from nibt.models._tower import Trace
from nibt.models.base import ImageTower, Tower
from nibt.results.pixels import to_pixels
from nibt.types import Embedding

_Value = TypeVar("_Value")

_TIES = 3  # the random stream of ties, distinct from other draws for an item
_DIGITS = 9  # digits relative to the largest score; smaller differences are rounding errors of resizing


def count_above(count: int, percentile: int) -> int:
    """Return how many of ``count`` different numbers are above their percentile (linear, as in NumPy); at least 1.

    >>> count_above(4096, 75), count_above(12, 90), count_above(11, 90), count_above(1, 90)
    (1024, 2, 1, 1)
    """
    return max(1, count - 1 - percentile * (count - 1) // 100)


def highest(scores: np.ndarray, ties: np.ndarray, count: int) -> np.ndarray:
    """Return a mask of the ``count`` highest scores; equal ones are ordered by ``ties``, then by position."""
    largest = float(np.abs(scores).max()) or 1.0
    rounded = np.round(scores.ravel() / largest, _DIGITS)
    order = np.lexsort((-np.arange(scores.size), ties.ravel(), rounded))
    masks = np.zeros(scores.size, bool)
    masks[order[scores.size - count :]] = True
    return masks.reshape(scores.shape)


def removed_pixels(
    grid: np.ndarray, ties: np.ndarray, extent: tuple[int, int], percentile: int
) -> Bool[np.ndarray, "height width"]:
    """Return a mask of the removed pixels, which have the highest scores of the map resized to the input."""
    pixels, pixel_ties = (
        to_pixels(torch.from_numpy(np.asarray(values, np.float64)), *extent).numpy() for values in (grid, ties)
    )
    return highest(pixels, pixel_ties, count_above(pixels.size, percentile))


def removed_units(
    tower: Tower, inputs: Inputs, scores: Sequence[np.ndarray], percentile: int, seed: int
) -> Bool[Tensor, "item ..."]:
    """Return a mask of the removed pixels (item, height, width) or tokens (item, token) but special ones."""
    ties = [item_rng(inputs, item, seed, _TIES).random(of_item.shape) for item, of_item in enumerate(scores)]
    if isinstance(tower, ImageTower):
        extent = tower.extent(inputs)
        masks = [removed_pixels(grid, tied, extent, percentile) for grid, tied in zip(scores, ties, strict=True)]
        return torch.from_numpy(np.stack(masks))

    assert inputs.words is not None
    rows = inputs.words.explained.cpu().clone()
    for row, of_item, tied in zip(rows, scores, ties, strict=True):
        row[row.clone()] = torch.from_numpy(highest(of_item, tied, count_above(of_item.size, percentile)))
    return rows


def filled(tower: ImageTower, inputs: Inputs, removed: Bool[Tensor, "batch height width"]) -> Inputs:
    """Return the inputs with removed pixels replaced by the channel means of the image."""
    values = inputs.values
    keep = (~removed).to(inputs.values)
    if values.ndim == 4:
        return tower.mask_pixels(inputs, keep, values.mean((2, 3), keepdim=True).expand_as(values))

    # the values are rows of patches, each with its pixels and channels, followed by rows of padding
    valid = tower.valid_tokens(inputs, values).to(values)[..., None, None]
    height, width = tower.extent(inputs)
    pixels = values.unflatten(-1, (height * width // int(valid[0].sum()), -1))
    means = (pixels * valid).sum((1, 2), keepdim=True) / (valid.sum((1, 2), keepdim=True) * pixels.shape[2])
    return tower.mask_pixels(inputs, keep, means.expand_as(pixels).flatten(2))


Rows = Int[Tensor, " row"]


@dataclass(frozen=True)
class InputGroup:
    """Items of one side that may share a batch, with a mask of removed pixels or tokens, if any."""

    items: tuple[int, ...]
    inputs: Inputs
    removed: Bool[Tensor, "item ..."] | None = None

    def take(self, rows: Sequence[int]) -> "InputGroup":
        removed = None if self.removed is None else self.removed[list(rows)]
        return InputGroup(tuple(self.items[row] for row in rows), self.inputs.take(rows), removed)

    def batches(self, size: int) -> Iterator["InputGroup"]:
        """Yield batches of nearly equal size. No batch has a single item, unless the group has."""
        count = max(1, -(-len(self.items) // max(2, size)))
        for rows in np.array_split(np.arange(len(self.items)), count):
            yield self.take(rows.tolist())

    def apply(self, tower: Tower, function: Callable[[Inputs], _Value]) -> _Value:
        """Call a function with the inputs, from which the removed pixels or tokens are removed."""
        if self.removed is None:
            return function(self.inputs)

        removed = self.removed.to(self.inputs.values.device)
        if isinstance(tower, ImageTower):
            return function(filled(tower, self.inputs, removed))

        assert isinstance(tower, TextTower)
        with tower.blend_to_padding((~removed).to(tower.example.dtype)):
            return function(self.inputs)


@dataclass(frozen=True)
class TowerInputs:
    """The inputs of all items of one side, in groups that may share a batch."""

    groups: tuple[InputGroup, ...]

    @classmethod
    def of(cls, tower: Tower, items: Sequence[ImageInput | str]) -> "TowerInputs":
        """Prepare items. Captions are padded to the longest one, so that all may share a batch."""
        keys = [tower.group(item) for item in items]
        members = [tuple(n for n, item_key in enumerate(keys) if item_key == key) for key in dict.fromkeys(keys)]
        return cls(tuple(InputGroup(members, tower.prepare([items[n] for n in members])) for members in members))

    def without(self, tower: Tower, scores: Sequence[np.ndarray], percentile: int, seed: int) -> "TowerInputs":
        """Return the inputs without the units with the highest scores."""
        return TowerInputs(
            tuple(
                replace(
                    group,
                    removed=removed_units(
                        tower, group.inputs, scores=[scores[n] for n in group.items], percentile=percentile, seed=seed
                    ),
                )
                for group in self.groups
            )
        )


def collect(
    members: Sequence[tuple[int, ...]], items: Sequence[int], embed: Callable[[int, list[int]], Embedding]
) -> Embedding:
    """Return the embeddings of items, in their order."""
    places = {item: (number, place) for number, members in enumerate(members) for place, item in enumerate(members)}
    locations = [places[item] for item in items]
    embeddings = []
    order = []
    for number in dict.fromkeys(number for number, _ in locations):
        wanted = [row for row, location in enumerate(locations) if location[0] == number]
        embeddings.append(embed(number, [locations[row][1] for row in wanted]))
        order += wanted

    return torch.cat(embeddings)[torch.tensor(order).argsort().to(embeddings[0].device)]


def traced(tower: Tower, group: InputGroup, layer: int, size: int) -> Trace:
    """Trace a group in batches, and return a single trace from the layer on."""
    counts: list[int] = []
    traces: list[Any] = []
    for batch in group.batches(size):
        counts.append(len(batch.items))
        traces.append(batch.apply(tower, lambda inputs: tower.trace(inputs, layer)))

    calls = [
        _joined([trace.calls[number] for trace in traces], counts, tower.shared) if number >= layer else ((), {})
        for number in range(tower.depth)
    ]
    streams: list[Tensor | None] = [None] * (tower.depth + 1)
    streams[layer] = torch.cat([trace.streams[layer] for trace in traces])
    embedding = torch.cat([trace.embedding for trace in traces])
    return Trace(tower, group.inputs, embedding=embedding, calls=tuple(calls), streams=tuple(streams))


def _joined(values: Sequence[Any], counts: Sequence[int], shared: frozenset[str], name: str = "") -> Any:
    """Join an argument of a block over all batches, if it has a batch dimension by the rule of ``Trace``."""
    value = values[0]
    if isinstance(value, Tensor):
        times = {len(value) / count for value, count in zip(values, counts, strict=True)} if value.ndim >= 3 else {0.5}
        follows = name not in shared and len(times) == 1 and times.pop() % 1 == 0
        return torch.cat(list(values)) if follows else value
    if isinstance(value, dict):
        return {key: _joined([value[key] for value in values], counts, shared, key) for key in value}
    if isinstance(value, tuple | list) and name not in shared:
        return type(value)(_joined(elements, counts, shared) for elements in zip(*values, strict=True))
    return value
