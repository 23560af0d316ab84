"""Torch's own modes, which change what a call computes without being one of its arguments.

A caller may have set a default device, automatic mixed precision or inference mode for work of their own. The public
functions of nibt compute inside ``plain_torch``, where none of them holds, so a result depends on the arguments alone.
All of these modes belong to a thread, so no other thread notices. The default dtype does not: it belongs to the
process, is never changed here, and every tensor that nibt makes has a dtype of its own. The image processors of other
libraries rely on it; they run inside ``float32_numbers``.
"""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode, _get_current_function_mode_stack, _pop_mode, _push_mode
from torch.utils._device import DeviceContext

_AUTOCAST_DEVICES = ("cpu", "cuda", "mps", "xpu")
_FACTORIES = {
    torch.arange,
    torch.as_tensor,
    torch.empty,
    torch.eye,
    torch.full,
    torch.linspace,
    torch.ones,
    torch.tensor,
    torch.zeros,
}
_ARITHMETIC = {
    torch.add,
    torch.div,
    torch.mul,
    torch.sub,
    torch.true_divide,
    Tensor.__add__,
    Tensor.__mul__,
    Tensor.__radd__,
    Tensor.__rmul__,
    Tensor.__rsub__,
    Tensor.__rtruediv__,
    Tensor.__sub__,
    Tensor.__truediv__,
    Tensor.add,
    Tensor.div,
    Tensor.mul,
    Tensor.sub,
    Tensor.true_divide,
}


@contextmanager
def plain_torch() -> Iterator[None]:
    """Run without a default device, autocast and inference mode in this thread; restore them afterwards.

    If the caller is in inference mode, no graph is kept inside either. It is also a decorator.
    """
    with ExitStack() as stack:
        stack.enter_context(_no_default_device())
        for device in _AUTOCAST_DEVICES:
            if torch.is_autocast_enabled(device):
                stack.enter_context(torch.autocast(device, enabled=False))
        if torch.is_inference_mode_enabled():
            stack.enter_context(torch.inference_mode(False))  # switches gradients on, which the caller had off
            stack.enter_context(torch.no_grad())
        yield


@contextmanager
def _no_default_device() -> Iterator[None]:
    """Create tensors on the processor unless a device is named.

    ``torch.set_default_device`` and ``with torch.device(...)`` push a mode onto this thread's stack of modes. Nothing
    public takes it off for a while, so it is done as torch does it when it enters such a mode below others.
    """
    before = _get_current_function_mode_stack()
    if not any(isinstance(mode, DeviceContext) for mode in before):
        yield
        return
    _replace_modes([mode for mode in before if not isinstance(mode, DeviceContext)])
    try:
        yield
    finally:
        _replace_modes(before)


def _replace_modes(modes: list) -> None:
    """Make these the modes of this thread, the outermost first."""
    for _ in _get_current_function_mode_stack():
        _pop_mode()
    for mode in modes:
        _push_mode(mode)


@contextmanager
def float32_numbers() -> Iterator[None]:
    """Make tensors of plain numbers float32, whatever torch's default dtype is, in this thread.

    The same holds for what is computed from whole numbers and plain numbers.
    """
    if torch.get_default_dtype() == torch.float32:
        yield
        return
    with _Float32Numbers():
        yield


class _Float32Numbers(TorchFunctionMode):
    """Calls again, for float32, what gave the default dtype only because no argument says which dtype is meant."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        out = func(*args, **kwargs)
        if not isinstance(out, Tensor) or out.dtype != torch.get_default_dtype() or kwargs.get("dtype") is not None:
            return out
        if any(isinstance(value, Tensor) and value.is_floating_point() for value in (*args, *kwargs.values())):
            return out
        if func in _FACTORIES and not isinstance(args and args[0], np.ndarray | np.generic):
            return func(*args, **{**kwargs, "dtype": torch.float32})
        if func in _ARITHMETIC:
            return func(*(value.float() if isinstance(value, Tensor) else value for value in args), **kwargs)
        return out
