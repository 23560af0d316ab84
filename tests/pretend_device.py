"""A device that exists nowhere, on which tensors are those of the CPU, to find faults that a CPU alone does not show.

Inside ``pretend`` tensors carry a mark if they were created on the device, moved to it, or computed from tensors there.
As a real accelerator does, it refuses to compute with tensors of both places, or to convert to NumPy without a copy to
the CPU; ``mps`` refuses float64, too. Numbers without dimensions and indices may be on the CPU. Parameters that a
function creates are taken for either. Inside ``torch.func`` nothing is checked.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from types import FunctionType
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

_MARK, _EITHER = "_nibt_pretends", "_nibt_either"
_MIXES = {Tensor.__deepcopy__, Tensor.__getitem__, Tensor.__setitem__, Tensor.copy_}
"""Functions that take a tensor of another device: copies that were made before, an index, or what is copied."""
_TO_NUMPY = {Tensor.numpy, Tensor.__array__}
_OF_SELF = ("new_", "_like")


def is_marked(tensor: Tensor) -> bool:
    """Return whether a tensor is on the device."""
    return _MARK in tensor.__dict__


def _mark(tensor: Tensor) -> Tensor:
    tensor.__dict__[_MARK] = True
    return tensor


def _is_elsewhere(tensor: Tensor) -> bool:
    return bool(tensor.ndim) and not is_marked(tensor) and not _is_either(tensor)


def _is_either(tensor: Tensor) -> bool:
    """Return whether a tensor is a new parameter without a mark, or was computed from one."""
    return _EITHER in tensor.__dict__ or (isinstance(tensor, nn.Parameter) and not is_marked(tensor))


def _tensors(value: Any) -> Iterator[Tensor]:
    if isinstance(value, Tensor):
        yield value
    elif isinstance(value, list | tuple):
        for part in value:
            yield from _tensors(part)
    elif isinstance(value, dict):
        yield from _tensors(list(value.values()))


class PretendDevice(TorchFunctionMode):
    """A context with a device of this name.

    Args:
        name: ``cuda``, ``mps`` or ``xpu``.

    """

    def __init__(self, name: str) -> None:
        super().__init__()
        self.device = torch.device(name)

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if func == torch.Tensor.device.__get__:
            return self.device if is_marked(args[0]) else func(*args)
        tensors = list(_tensors((args, kwargs)))
        if any(torch._C._functorch.is_functorch_wrapped_tensor(one) for one in tensors):
            return func(*args, **kwargs)
        if func in (Tensor.to, Tensor.cpu, Tensor.type_as):
            return self._moved(func, args, kwargs)
        name = getattr(func, "__name__", "")
        if name == "multi_head_attention_forward":  # Python, inside which this mode would be off
            names = {**func.__globals__, "has_torch_function": lambda _: False}
            with self:
                return FunctionType(func.__code__, names, name, func.__defaults__)(*args, **kwargs)
        if func in _TO_NUMPY and is_marked(args[0]):
            raise TypeError(f"can't convert {self.device} device type tensor to numpy")
        if "device" in kwargs and kwargs["device"] is not None:
            here = torch.device(kwargs["device"]).type == self.device.type
            return self._result(func(*args, **{**kwargs, "device": "cpu"}), here)
        here = any(map(is_marked, tensors))
        if any(part in name for part in _OF_SELF):
            here = is_marked(args[0])
        elif here and func not in _MIXES and any(map(_is_elsewhere, tensors)):
            raise RuntimeError(f"Expected all tensors to be on the same device, but {name} got {self.device} and cpu")
        out = self._result(func(*args, **kwargs), here)
        if not here and any(map(_is_either, tensors)):
            for one in _tensors(out):
                one.__dict__[_EITHER] = True
        return out

    def _moved(self, func: Any, args: Any, kwargs: Any) -> Any:
        """Move a tensor as ``to`` does, and to the CPU."""
        tensor, here = args[0], is_marked(args[0])
        others = []
        for one in (*args[1:], *kwargs.values()):
            if isinstance(one, Tensor):
                here = is_marked(one)
                others.append(one.dtype)
            elif isinstance(one, str | torch.device):
                here = torch.device(one).type == self.device.type
            elif isinstance(one, torch.dtype):
                others.append(one)
        if func == Tensor.cpu:
            here = False
        out = tensor.to(*others) if others else tensor
        if here != is_marked(tensor) and out is tensor:
            out = tensor.clone()
            out.__dict__.pop(_MARK, None)
        elif out is not tensor:
            out.__dict__.pop(_MARK, None)
        return self._result(out, here)

    def _result(self, out: Any, here: bool) -> Any:
        for one in _tensors(out) if here else ():
            if self.device.type == "mps" and one.dtype == torch.float64:
                raise TypeError("Cannot convert a MPS Tensor to float64 dtype as the MPS framework doesn't support it")
            _mark(one)
        return out


@contextmanager
def pretend(name: str, module: nn.Module) -> Iterator[None]:
    """Put a module on a device of this name, inside ``with`` alone, and let copies of its weights be there, too."""
    own, mode = nn.Parameter.__deepcopy__, PretendDevice(name)

    def copied(weight: nn.Parameter, memo: dict) -> nn.Parameter:
        copy = own(weight, memo)
        return _mark(copy) if is_marked(weight) else copy

    weights = [*module.parameters(), *module.buffers()]
    for weight in weights:
        _mark(weight)
    nn.Parameter.__deepcopy__ = copied
    try:
        with mode:
            yield
    finally:
        nn.Parameter.__deepcopy__ = own
        for weight in weights:
            weight.__dict__.pop(_MARK, None)
