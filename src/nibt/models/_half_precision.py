"""Arithmetic in float32 for models whose weights are float16 or bfloat16.

A map is a sum of products of states and gradients. In half precision each of the many operations between them rounds:
float16 keeps 11 bits, bfloat16 8. Matrix products alone, with all else in float32, change single maps in bfloat16 by
hundredths of the largest score (``benchmarks/precision.py``). Therefore every operation of a tower is done in float32,
and only the weights stay as they are. A weight is converted when an operation needs it, and the copy is dropped after
it: the graph for gradients keeps the weight itself. The model is not changed.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd.graph import saved_tensors_hooks
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode

HALF = (torch.float16, torch.bfloat16)
_CONVERSION = torch.ops.aten._to_copy.default
_LOOKUP = torch.ops.aten.embedding.default
_FIRST_CHECKED = {F.conv1d: 2, F.conv2d: 2, F.conv3d: 2, F.scaled_dot_product_attention: 0}
"""Functions that compare dtypes before they call a mode of operations, with the first argument that they compare."""


def computing_dtype(dtype: torch.dtype) -> torch.dtype:
    """Return the dtype in which a tower computes whose weights have a dtype: float32, or their own if it has more bits.

    Examples:
        >>> computing_dtype(torch.bfloat16), computing_dtype(torch.float64)
        (torch.float32, torch.float64)
    """
    return torch.promote_types(dtype, torch.float32)


@contextmanager
def float32_arithmetic(dtype: torch.dtype) -> Iterator[None]:
    """Compute in float32 in this thread inside ``with`` if ``dtype``, that of the weights, is float16 or bfloat16.

    Gradients of what is computed inside may be taken after ``with``.
    """
    if dtype not in HALF:
        yield
        return
    with _Float32Arguments(), _Float32Arithmetic(), saved_tensors_hooks(_unchanged, _widened):
        yield


class _Float32Arithmetic(TorchDispatchMode):
    """A mode in which no operation takes or gives numbers in half precision, except views of weights."""

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if func.is_view or func._schema.is_mutable:
            return func(*args, **kwargs)
        if kwargs.get("dtype") in HALF:  # models convert states to the dtype of their weights
            kwargs = {**kwargs, "dtype": torch.float32}
        if func is _CONVERSION:
            return func(*args, **kwargs)
        if func is _LOOKUP:  # a table of word embeddings is large, and few of its rows are used
            return _widened(func(*args, **kwargs))
        return func(*_widened(args), **_widened(kwargs))


class _Float32Arguments(TorchFunctionMode):
    """A mode that converts arguments which torch checks before it calls the other mode."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if func in _FIRST_CHECKED:
            first = _FIRST_CHECKED[func]
            args, kwargs = (*args[:first], *_widened(args[first:])), _widened(kwargs)
        return func(*args, **kwargs)


def _widened(value: Any) -> Any:
    """Convert the tensors in half precision to float32, in lists and dictionaries, too."""
    if isinstance(value, Tensor):
        return value.float() if value.dtype in HALF else value
    if isinstance(value, dict):
        return {key: _widened(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return type(value)(map(_widened, value))
    return value


def _unchanged(tensor: Tensor) -> Tensor:
    return tensor
