"""Fast tests of whether the weights of a module have changed.

The stamp samples a few values, which every step can afford; ``renew`` sums all values, once per call of a user.
"""

from collections.abc import Iterable, Iterator
from itertools import count
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn

_SAMPLES = 8  # values of each weight that are compared
_Places = tuple[tuple[int, int], ...]
_SUMS: "WeakKeyDictionary[nn.Module, tuple[int, ...]]" = WeakKeyDictionary()
_GENERATIONS: "WeakKeyDictionary[nn.Module, int]" = WeakKeyDictionary()
_numbers = count(1)
_VIEWS: "WeakKeyDictionary[nn.Module, tuple[_Places, list[list[Tensor]]]]" = WeakKeyDictionary()


def weights_stamp(module: nn.Module) -> str:
    """Compute a stamp that differs after any weight is replaced or changed in place.

    It covers the address and version of each tensor and, since changes through ``.data`` or numpy have no version, a
    few of its values, and those that ``renew`` has found to be changed.
    """
    tensors = list(_tensors(module))
    places = tuple((tensor.data_ptr(), tensor._version) for tensor in tensors)
    sampled, views = _VIEWS.get(module, ((), []))
    if sampled != places:
        views = _views(tensors)
        _VIEWS[module] = places, views
    samples = [torch.cat(group).cpu().flatten().contiguous().view(torch.uint8).numpy().tobytes() for group in views]
    return str(hash((places, _GENERATIONS.get(module, 0), *samples)))


def renew(module: nn.Module, parts: Iterable[nn.Module] = ()) -> None:
    """Change the stamps of a module and its parts if any value was changed since the last call.

    It reads the weights once, at the speed of the memory.
    """
    sums = tuple(map(_sum, _tensors(module)))
    if _SUMS.setdefault(module, sums) != sums:
        _SUMS[module], number = sums, next(_numbers)
        for changed in (module, *parts):
            _GENERATIONS[changed] = number


def _sum(tensor: Tensor) -> int:
    """Return the sum of the bits of a tensor as whole numbers of 64 bits, which any change of one value changes."""
    flat = tensor.detach().contiguous().flatten().view(torch.uint8)
    aligned = len(flat) // 8 * 8
    if aligned and flat.storage_offset() % 8 == 0:
        return int(flat[:aligned].view(torch.int64).sum()) + int(flat[aligned:].sum())
    return int(flat.sum())


def _tensors(module: nn.Module) -> Iterator[Tensor]:
    """Yield all parameters and buffers, those that are shared more than once.

    ``module.parameters()`` builds a name for each, which takes several times as long.
    """
    modules, visited = [module], set()
    while modules:
        submodule = modules.pop()
        if id(submodule) in visited:
            continue
        visited.add(id(submodule))
        for tensors in (submodule._parameters, submodule._buffers):
            yield from (tensor for tensor in tensors.values() if tensor is not None)
        modules += [child for child in submodule._modules.values() if child is not None]


def _views(tensors: list[Tensor]) -> list[list[Tensor]]:
    """Return views of evenly spaced values of each tensor, grouped by dtype and device."""
    groups: dict[tuple[torch.dtype, torch.device], list[Tensor]] = {}
    for tensor in tensors:
        if tensor.numel():
            flat = tensor.detach().view(-1) if tensor.is_contiguous() else tensor.detach().select(0, 0).reshape(-1)
            step = max(1, len(flat) // _SAMPLES)
            groups.setdefault((tensor.dtype, tensor.device), []).append(flat[::step][:_SAMPLES])
    return list(groups.values())
