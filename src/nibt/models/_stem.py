"""A tower cut at its first tokens, before anything is done to them.

Of an image these are the patches with their places, before the first norm (of a convolutional trunk, which gives no
places, the first feature map: its layer 0); of a caption the word embeddings, before they get their places.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor
from torch.utils.hooks import RemovableHandle

from nibt.models._trace import Cut, Inputs
from nibt.types import States

See = Callable[[Tensor], Tensor | None]


def cut_stem(tower: Any, inputs: Inputs) -> Cut:
    """The first tokens, and the whole model as a function of several such states at once: it runs its own forward
    pass, in which they are put in place of its own.
    """
    seen: list[Tensor] = []
    with torch.no_grad(), _watched(tower, seen.append):
        tower.run(inputs)
    (stream,) = seen

    def rest(states: States) -> Float[Tensor, "node batch dim"]:
        tiled = inputs.take(list(range(len(inputs))) * len(states)) if len(states) > 1 else inputs
        with _watched(tower, lambda _: tower.to_stream(states.flatten(0, 1), stream)):
            return tower.run(tiled).unflatten(0, (len(states), -1))

    return Cut(tower.to_tokens(stream.detach()), tower.units(inputs, stream), rest)


@contextmanager
def _watched(tower: Any, see: See) -> Iterator[None]:
    with tower.lock:
        handle: RemovableHandle = tower.on_first_tokens(see)
        try:
            yield
        finally:
            handle.remove()
