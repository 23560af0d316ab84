"""Weights with fewer bits than float32, in half precision or quantized: every operation is done in float32.

A map is a sum of products of states and gradients. In half precision each of the many operations between them rounds:
float16 keeps 11 bits, bfloat16 8. Matrix products alone, with all else in float32, change single maps in bfloat16 by
hundredths of the largest score (``benchmarks/precision.py``). Therefore every operation of a tower is done in float32,
and only the weights stay as they are. A weight is converted when an operation needs it, and the copy is dropped after
it: the graph for gradients keeps the weight itself. The model is not changed.

Quantized weights are recognized here; ``_dense_layers`` computes with them.
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch._ops import OpOverload
from torch.autograd.graph import saved_tensors_hooks
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode, is_traceable_wrapper_subclass

from nibt.errors import CannotLoad
from nibt.options import Keywords
from nibt.torch_modes import TorchFunction

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

    # the graph keeps weights as they are, and a gradient that needs one converts it
    with _Float32Arguments(), _Float32Arithmetic(), saved_tensors_hooks(_unchanged, _widened):
        yield


class _Float32Arithmetic(TorchDispatchMode):
    """A mode in which no operation takes or gives numbers in half precision, except views of weights."""

    def __torch_dispatch__(
        self, func: OpOverload, types: Sequence[type], args: tuple = (), kwargs: Keywords | None = None
    ) -> Any:
        kwargs = kwargs or {}

        # a view of a weight must stay one, and a change in place must reach the tensor itself
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

    def __torch_function__(
        self, func: TorchFunction, types: Sequence[type], args: tuple = (), kwargs: Keywords | None = None
    ) -> Any:
        kwargs = kwargs or {}
        if func not in _FIRST_CHECKED:
            return func(*args, **kwargs)

        first = _FIRST_CHECKED[func]
        return func(*args[:first], *_widened(args[first:]), **_widened(kwargs))


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


_LOADED = ("bitsandbytes", "torchao")
"""Methods of quantization in a ``config.json`` whose layers may be explained."""
_REMEDY = (
    "use a version in float16 or bfloat16, which BitsAndBytesConfig(load_in_4bit=True) of Transformers quantizes when "
    "it is loaded"
)


def is_quantized(module: nn.Module) -> bool:
    """Return whether the weight of a module is quantized."""
    weight: Any = module._parameters.get("weight")
    return has_4_bits(weight) or has_8_bits(weight) or is_traceable_wrapper_subclass(weight)


def has_4_bits(weight: Tensor | None) -> bool:
    """Return whether a weight is one of ``Linear4bit`` of bitsandbytes."""
    return hasattr(weight, "quant_state")


def has_8_bits(weight: Tensor | None) -> bool:
    """Return whether a weight is one of ``Linear8bitLt`` of bitsandbytes."""
    return hasattr(weight, "SCB")


def quantization(module: nn.Module) -> str | None:
    """Return how the weights of a model are quantized, such as ``nf4 (bitsandbytes)``; None if they are not."""
    return ", ".join(sorted({_format(layer.weight) for layer in filter(is_quantized, module.modules())})) or None


def _format(weight: Any) -> str:
    name = weight.quant_type if has_4_bits(weight) else "int8" if has_8_bits(weight) else type(weight).__name__
    return f"{name} ({_package(weight)})"


def _package(weight: Tensor) -> str:
    return type(weight).__module__.partition(".")[0]


def check_quantization(name: str, config: object) -> None:
    """Check that the method of quantization that a configuration names has layers that may be explained."""
    settings = getattr(config, "quantization_config", None) or {}
    method = settings.get("quant_method") if isinstance(settings, Mapping) else getattr(settings, "quant_method", None)
    method = str(getattr(method, "value", method))
    if settings and method not in _LOADED:
        raise CannotLoad(
            f"{name} is quantized by {method!r}, and only {' and '.join(_LOADED)} are supported: {_REMEDY}"
        )


def check_quantized(name: str, module: nn.Module) -> None:
    """Check that all quantized layers of a model are linear maps whose numbers can be computed."""
    check_quantization(f"the {name}", getattr(module, "config", None))
    for layer in filter(is_quantized, module.modules()):
        weight: Any = layer.weight
        package = _package(weight)
        has_numbers = package in _LOADED and hasattr(weight, "dequantize" if package == "torchao" else "data")
        if not isinstance(layer, nn.Linear) or not has_numbers:
            problem = f"which is not supported: {_REMEDY}"
        elif package == "torchao" and any("act" in key and value is not None for key, value in vars(weight).items()):
            problem = "which rounds its inputs, too, and passes no gradients: quantize weights only"
        elif package == "bitsandbytes" and weight.is_floating_point() and getattr(weight, "quant_state", None) is None:
            problem = "which is not quantized yet: move the model to its device first"
        else:
            continue

        raise CannotLoad(f"the {name} has a {type(layer).__name__} in {_format(weight)}, {problem}")


def of_one_dtype(module: nn.Module, dtype: torch.dtype) -> None:
    """Convert the other weights of a quantized model, which Transformers loads in the dtypes of its parts, to one."""
    if quantization(module) is None:
        return

    for layer in module.modules():
        if not is_quantized(layer):
            for tensor in (*layer.parameters(recurse=False), *layer.buffers(recurse=False)):
                if tensor.is_floating_point():
                    tensor.data = tensor.data.to(dtype)


def state_of(module: nn.Module) -> dict[str, Tensor]:
    """Return the state dict of a model, with plain tensors; a layer of bitsandbytes repacks its weight for its own."""
    if quantization(module) is None:
        return module.state_dict()

    from nibt.models._dense_layers import stored  # which only quantized models need

    state: dict[str, Any] = {}
    for name, layer in module.named_modules(remove_duplicate=False):
        prefix = f"{name}." if name else ""
        if is_quantized(layer):
            state |= {f"{prefix}weight{end}": tensor for end, tensor in stored(layer).items()}
            state |= {f"{prefix}bias": layer.bias} if layer.bias is not None else {}
        else:
            nn.Module._save_to_state_dict(layer, state, prefix, False)

    return state
