"""What the maps and checks of one model share: embeddings, traces of the same images, and attributions."""

from collections.abc import Callable, Hashable, Sequence
from dataclasses import replace
from typing import Any

import torch
from torch.nn.utils.rnn import pad_sequence

from nibt.data.images import ImageInput
from nibt.data.pair import AnyPair
from nibt.engine.batches import BatchCache, TimedTrace, item_key
from nibt.engine.encode import encode
from nibt.models.base import Model
from nibt.results.attribution import Attribution
from nibt.types import Embedding, Modality

TRACES = 2**30
"""The memory in bytes for the traces of an audit."""


class KeptEmbeddings:
    """The embeddings of images and captions, each of which is computed once."""

    def __init__(self, model: Model) -> None:
        self.model = model
        self._items: dict[Hashable, ImageInput | str] = {}  # while they are kept, no other image has their identity
        self._embeddings: dict[Hashable, torch.Tensor] = {}

    def of(self, modality: Modality, items: Sequence[ImageInput] | Sequence[str]) -> Embedding:
        """Return the embeddings of images or captions, in their order; those that are not known are computed."""
        tower = self.model.image if modality == "image" else self.model.text
        by_key = {item_key(item): item for item in items}
        missing = {key: item for key, item in by_key.items() if key not in self._embeddings}
        if missing:
            computed = encode(tower, list(missing.values()))
            self._embeddings |= dict(zip(missing, computed, strict=True))
            self._items |= missing

        return pad_sequence([self._embeddings[item_key(item)] for item in items], batch_first=True)


class SharedWork(BatchCache):
    """A cache for many maps of the same images or captions, with changed captions or images.

    Beside the traces, it keeps those of shifted images and the attributions, and it takes the embeddings of a side that
    is not explained from those that are kept. It is not for methods that are timed.

    Args:
        model: The model.
        embeddings: The embeddings that are kept; another model may have computed them, if a tower is the same.
        most_bytes: The memory for traces, which shifted images of the last batch may exceed; with 0, only embeddings
            are shared.
    """

    def __init__(self, model: Model, embeddings: KeptEmbeddings, most_bytes: int) -> None:
        super().__init__(model)
        self.embeddings = embeddings
        self.most_bytes = most_bytes

    def attribution(self, pairs: Sequence[AnyPair], key: Hashable, compute: Callable[[], Attribution]) -> Attribution:
        """Return the attribution of a side of a batch, which the first call with this key computes."""
        return self.once(pairs, ("attribution", key), compute) if self.most_bytes else compute()

    def embedding(self, pairs: Sequence[AnyPair], position: int, modality: Modality) -> Embedding | None:
        """Return the embeddings of the first or second items of the pairs."""
        items: list[Any] = [pair.items[position] for pair in pairs]
        return self.embeddings.of(modality, items)

    def keep(self, pairs: Sequence[AnyPair], side: int, timed: TimedTrace) -> TimedTrace:
        """Keep the trace of one side of a batch, and those of its shifted images, while there is memory for them."""
        held = sum(each.trace.size for each in self._traces.values())
        if held + timed.trace.size > self.most_bytes:
            return timed
        return super().keep(pairs, side, replace(timed, trace=replace(timed.trace, shifted={})))
