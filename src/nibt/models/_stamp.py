"""Whether the weights of a module were changed, looked up so quickly that every call can."""

from itertools import chain
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn

_SAMPLES = 8  # numbers of each weight that are looked at
_Places = tuple[tuple[int, int], ...]
_VIEWS: "WeakKeyDictionary[nn.Module, tuple[_Places, list[list[Tensor]]]]" = WeakKeyDictionary()


def weights_stamp(module: nn.Module) -> str:
    """What is another once any weight was replaced or changed in place: by its place in memory, its version and, since
    changes of ``.data`` or by numpy have no version, by a few of its numbers.
    """
    tensors = list(chain(module.parameters(), module.buffers()))
    places = tuple((tensor.data_ptr(), tensor._version) for tensor in tensors)
    known, views = _VIEWS.get(module, ((), []))
    if known != places:
        views = _views(tensors)
        _VIEWS[module] = places, views
    samples = [torch.cat(group).cpu().flatten().contiguous().view(torch.uint8).numpy().tobytes() for group in views]
    return str(hash((places, *samples)))


def _views(tensors: list[Tensor]) -> list[list[Tensor]]:
    """Evenly spaced numbers of each tensor, which share its memory, by kinds that can be joined."""
    groups: dict[tuple[torch.dtype, torch.device], list[Tensor]] = {}
    for tensor in tensors:
        if tensor.numel():
            flat = tensor.detach().view(-1) if tensor.is_contiguous() else tensor.detach().select(0, 0).reshape(-1)
            step = max(1, len(flat) // _SAMPLES)
            groups.setdefault((tensor.dtype, tensor.device), []).append(flat[::step][:_SAMPLES])
    return list(groups.values())
