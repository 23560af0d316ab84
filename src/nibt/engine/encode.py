"""Computation of the embeddings of images or captions, in batches."""

import gc
import logging
from collections import defaultdict, deque
from collections.abc import Callable, Hashable, Iterable, Iterator, Sequence
from typing import Any, TypeVar

import numpy as np
import torch
from torch.nn.utils.rnn import pad_sequence

from nibt.data.images import ImageInput
from nibt.errors import Unsupported, reason
from nibt.models.base import Model, Tower
from nibt.torch_modes import plain_torch
from nibt.types import Embedding

_OUT_OF_MEMORY = ("out of memory", "can't allocate memory", "ALLOC_FAILED")
"""Parts of the messages of a RuntimeError: of mps, of the CPU, of cuBLAS and cuDNN."""

_PIXELS = 2**19
"""The largest number of pixels that go through a tower together: beyond it, memory of the size of the activations is
asked of the system and given back in each block, which takes longer than to compute them.
"""

TOO_LARGE = "does not fit into memory even alone: choose fewer steps or views, or a smaller image_size or dtype"
"""What to do if memory runs out for one item."""


@plain_torch()
def encode(tower: Tower, items: Sequence[ImageInput | str], batch_size: int = 32) -> Embedding:
    """Compute the embeddings of images or captions, in their order: (item, dim).

    Sets of vectors are padded with zeros to the longest: (item, vector, dim). On a processor, fewer than
    ``batch_size`` large images go through the tower together.
    """
    batch_size = most_together(tower, items, batch_size)
    order = list(range(len(items)))

    # captions of similar length share a batch; their characters are counted, which needs no tokenizer
    if len(items) > batch_size:
        lengths = [len(item) if isinstance(item, str) else 0 for item in items]
        order.sort(key=lengths.__getitem__)

    groups = groups_of([tower.group(items[index]) for index in order], batch_size)
    batches = ([order[place] for place in group] for group in groups)

    def encode_batch(indices: Sequence[int]) -> Embedding:
        return tower.encode(tower.prepare([items[index] for index in indices]))

    embeddings: dict[int, torch.Tensor] = {}
    for indices, batch in within_memory(batches, encode_batch):
        embeddings |= dict(zip(indices, batch, strict=True))

    return pad_sequence([embeddings[index] for index in range(len(items))], batch_first=True)


def most_together(tower: Tower, items: Sequence[ImageInput | str], batch_size: int) -> int:
    """Return how many items should go through a tower together.

    It is ``batch_size``, or on a processor fewer, if images are large.
    """
    preparation = getattr(tower, "preparation", None)  # towers that prepare images in another way have none
    sizes = {item.size for item in items if isinstance(item, ImageInput)}
    if preparation is None or not sizes or tower.example.device.type != "cpu":
        return batch_size

    most_pixels = max(width * height for width, height in map(preparation.resize.size, sizes))
    return max(1, min(batch_size, _PIXELS // most_pixels))


@torch.no_grad()
def similarities(
    model: Model, images: Sequence[ImageInput] | Embedding, captions: Sequence[str] | Embedding
) -> np.ndarray:
    """Compute the similarity of each image with its caption, or of their embeddings: (pair)."""
    if not len(images):
        return np.empty(0)

    of_images = images if isinstance(images, torch.Tensor) else encode(model.image, images)
    of_captions = captions if isinstance(captions, torch.Tensor) else encode(model.text, captions)
    return model.similarity(of_images.float(), of_captions.float()).cpu().double().numpy()


_Result = TypeVar("_Result")


def within_memory(
    batches: Iterable[Sequence[int]], compute: Callable[[Sequence[int]], _Result]
) -> Iterator[tuple[Sequence[int], _Result]]:
    """Compute batches; if memory runs out, go on with half as many items at a time."""
    queue = deque(batches)
    while queue:
        indices = queue.popleft()
        try:
            result = compute(indices)
        except Exception as error:
            halve_batches(error, indices, queue)
        else:
            yield indices, result


def halve_batches(error: Exception, indices: Sequence[int], queue: deque[Sequence[int]]) -> None:
    """Put a batch that did not fit into memory back, in halves, and go on with batches of that size."""
    if not is_out_of_memory(error):
        raise error
    if len(indices) == 1:
        raise Unsupported(f"one pair {TOO_LARGE} ({reason(error)})") from error.with_traceback(None)

    error.with_traceback(None)  # which would keep the tensors in memory

    # later batches are split, too, or each would run out of memory first
    most = halve(len(indices))
    batches = [indices, *queue]
    queue.clear()
    queue.extend(batch[first : first + most] for batch in batches for first in range(0, len(batch), most))


def halve(size: int) -> int:
    """Free memory after a batch of ``size`` did not fit, log a warning, and return the size to go on with."""
    half = size // 2
    free_memory()
    logging.getLogger("nibt").warning(
        "memory ran out for a batch of %d: nibt goes on with batches of %d; set batch_size to at most %d",
        size,
        half,
        half,
    )
    return half


def groups_of(groups: Sequence[Hashable], size: int) -> Iterator[list[int]]:
    """Yield the indices of items of the same group, in their order, at most ``size`` at a time."""
    by_group: defaultdict[Any, list[int]] = defaultdict(list)
    for index, group in enumerate(groups):
        by_group[group].append(index)
    for members in by_group.values():
        yield from (members[first : first + size] for first in range(0, len(members), size))


def is_out_of_memory(error: BaseException) -> bool:
    """Return whether an error says that memory ran out, on any device."""
    if isinstance(error, torch.OutOfMemoryError | MemoryError):
        return True
    return isinstance(error, RuntimeError) and any(phrase in str(error) for phrase in _OUT_OF_MEMORY)


def free_memory() -> None:
    """Free memory that nobody uses: cycles of Python, and what torch keeps of an accelerator."""
    gc.collect()
    accelerator: Any = torch.accelerator.current_accelerator() if torch.accelerator.is_available() else None
    if accelerator is not None:
        getattr(torch, accelerator.type).empty_cache()
