"""Computation of the embeddings of images or captions, in batches."""

from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch.nn.utils.rnn import pad_sequence

from nibt.engine.memory import within_memory
from nibt.models.base import Tower
from nibt.torch_modes import plain_torch
from nibt.types import Embedding


@plain_torch()
def encode(tower: Tower, items: Sequence[Any], batch_size: int = 32) -> Embedding:
    """Compute the embeddings of images or captions, in their order: (item, dim).

    Sets of vectors are padded with zeros to the longest: (item, vector, dim).
    """
    order = list(range(len(items)))
    if len(items) > batch_size:  # captions of similar length share a batch; characters need no tokenizer
        order.sort(key=lambda index: len(items[index]) if isinstance(items[index], str) else 0)
    embeddings: dict[int, torch.Tensor] = {}
    numbers = groups_of([tower.group(items[index]) for index in order], batch_size)
    groups = ([order[number] for number in group] for group in numbers)
    for indices, batch in within_memory(
        groups, lambda indices: tower.encode(tower.prepare([items[i] for i in indices]))
    ):
        embeddings |= dict(zip(indices, batch, strict=True))
    return pad_sequence([embeddings[index] for index in range(len(items))], batch_first=True)


def groups_of(groups: Sequence[Any], size: int) -> Iterator[list[int]]:
    """Yield the indices of items of the same group, in their order, at most ``size`` at a time."""
    for group in dict.fromkeys(groups):
        members = [index for index, item_group in enumerate(groups) if item_group == group]
        yield from (members[first : first + size] for first in range(0, len(members), size))
