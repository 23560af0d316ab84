"""Weights with fewer bits than float32, in half precision or quantized: every operation is done in float32.

A map is a sum of products of states and gradients. In half precision each of the many operations between them rounds:
float16 keeps 11 bits, bfloat16 8. Matrix products alone, with all else in float32, change single maps in bfloat16 by
hundredths of the largest score (``benchmarks/precision.py``). Therefore every operation of a tower is done in float32,
and only the weights stay as they are. A weight is converted when an operation needs it, and the copy is dropped after
it: the graph for gradients keeps the weight itself. The model is not changed.

Quantized linear maps, of bitsandbytes and torchao, also keep only their weights. Each map computes in float32 with the
numbers that its weight stands for. They are computed when they are needed, also for gradients, and not kept. The maps'
own forward passes would be no replacement: on some processors, those of bitsandbytes repack the weights in place and
then pass no gradients, and they convert biases in place. LLM.int8 rounds the inputs of its maps to 8 bits, as half
precision rounds them to 8 or 11; both are left out.
"""

import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from copy import copy
from typing import Any, TypeAlias

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

    with _Float32Arguments(), _Float32Arithmetic(), saved_tensors_hooks(_unchanged, _widened):
        yield


class _Float32Arithmetic(TorchDispatchMode):
    """A mode in which no operation takes or gives numbers in half precision, except views of weights."""

    def __torch_dispatch__(
        self, func: OpOverload, types: Sequence[type], args: tuple = (), kwargs: Keywords | None = None
    ) -> Any:
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
    return _has_4_bits(weight) or _has_8_bits(weight) or is_traceable_wrapper_subclass(weight)


def _has_4_bits(weight: Tensor | None) -> bool:
    """Return whether a weight is one of ``Linear4bit`` of bitsandbytes."""
    return hasattr(weight, "quant_state")


def _has_8_bits(weight: Tensor | None) -> bool:
    """Return whether a weight is one of ``Linear8bitLt`` of bitsandbytes."""
    return hasattr(weight, "SCB")


def quantization(module: nn.Module) -> str | None:
    """Return how the weights of a model are quantized, such as ``nf4 (bitsandbytes)``; None if they are not."""
    return ", ".join(sorted({_format(layer.weight) for layer in filter(is_quantized, module.modules())})) or None


def _format(weight: Any) -> str:
    name = weight.quant_type if _has_4_bits(weight) else "int8" if _has_8_bits(weight) else type(weight).__name__
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
        if (
            not isinstance(layer, nn.Linear)
            or package not in _LOADED
            or not hasattr(weight, "dequantize" if package == "torchao" else "data")
        ):
            problem = f"which is not supported: {_REMEDY}"
        elif package == "torchao" and any("act" in key and value is not None for key, value in vars(weight).items()):
            problem = "which rounds its inputs, too, and passes no gradients: quantize weights only"
        elif package == "bitsandbytes" and weight.is_floating_point() and getattr(weight, "quant_state", None) is None:
            problem = "which is not quantized yet: move the model to its device first"
        else:
            continue
        raise CannotLoad(f"the {name} has a {type(layer).__name__} in {_format(weight)}, {problem}")


def dense_weight(layer: nn.Module) -> Tensor:
    """Return the numbers that the weight of a quantized linear map stands for, in float32."""
    weight: Any = layer.weight
    if _has_8_bits(weight):
        return weight.data.float() * (_scales(layer)[".SCB"][:, None] / 127)

    if not _has_4_bits(weight):
        with float32_arithmetic(torch.bfloat16):  # also of scales, wherever it is called
            return weight.dequantize().float()

    from bitsandbytes import functional

    data = weight.data.view(torch.uint8)
    state = copy(weight.quant_state)
    if getattr(state, "packing_format_for_cpu", False):  # in another order, with scales in bfloat16
        state.original_nested = False
        state.original_storage_type = None
        data, state = functional._convert_weight_packed_for_cpu_inverse(data, state)
        state.absmax = state.absmax.T.reshape(-1).float()

    state.dtype = layer.compute_dtype or torch.float32
    return functional.dequantize_4bit(data, state).float()


def _scales(layer: nn.Module) -> dict[str, Tensor]:
    """Return the scales of a layer of bitsandbytes by their names."""
    weight: Any = layer.weight
    if _has_8_bits(weight):
        state: Any = layer.state  # has the scales after the first call of the layer
        return {".SCB": state.SCB if weight.SCB is None else weight.SCB}

    held = {"": weight.quant_state, ".state2": getattr(weight.quant_state, "state2", None)}
    numbers = {f"{end}.{key}": value for end, state in held.items() if state for key, value in vars(state).items()}
    return {key: value for key, value in numbers.items() if isinstance(value, Tensor)}


def of_one_dtype(module: nn.Module, dtype: torch.dtype) -> None:
    """Convert the other weights of a quantized model, which Transformers loads in the dtypes of its parts, to one."""
    if quantization(module) is None:
        return

    for layer in module.modules():
        if not is_quantized(layer):
            for tensor in (*layer.parameters(recurse=False), *layer.buffers(recurse=False)):
                if tensor.is_floating_point():
                    tensor.data = tensor.data.to(dtype)


def stored(layer: nn.Module) -> dict[str, Tensor]:
    """Return the plain tensors of the weight of a quantized layer, by the ends of their names."""
    weight = layer.get_parameter("weight")
    if is_traceable_wrapper_subclass(weight):
        return _flat(weight)
    return {"": weight.data.view(torch.uint8), **_scales(layer)}


def _flat(tensor: Tensor) -> dict[str, Tensor]:
    if not is_traceable_wrapper_subclass(tensor):
        return {"": tensor}
    names, _ = tensor.__tensor_flatten__()
    return {f".{name}{end}": inner for name in names for end, inner in _flat(getattr(tensor, name)).items()}


def state_of(module: nn.Module) -> dict[str, Tensor]:
    """Return the state dict of a model, with plain tensors; a layer of bitsandbytes repacks its weight for its own."""
    if quantization(module) is None:
        return module.state_dict()

    state: dict[str, Any] = {}
    for name, layer in module.named_modules(remove_duplicate=False):
        prefix = f"{name}." if name else ""
        if is_quantized(layer):
            state |= {f"{prefix}weight{end}": tensor for end, tensor in stored(layer).items()}
            state |= {f"{prefix}bias": layer.bias} if layer.bias is not None else {}
        else:
            nn.Module._save_to_state_dict(layer, state, prefix, False)

    return state


@contextmanager
def dense_layers(layers: Mapping[str, nn.Module]) -> Iterator[None]:
    """Let quantized layers, by their paths, compute in float32 inside ``with``, in this thread."""
    replaced = []
    for path, layer in layers.items():
        name = "_old_forward" if hasattr(layer, "_old_forward") else "forward"  # of accelerate, which calls it
        replaced.append((vars(layer), name, vars(layer).get(name)))
        vars(layer)[name] = _Dense(path, layer, getattr(layer, name))

    try:
        yield
    finally:
        for attributes, name, before in replaced:
            if before is None:
                del attributes[name]
            else:
                attributes[name] = before


_Layout: TypeAlias = tuple[torch.Size, tuple[int, ...]]
"""The shape and the strides of a weight that is computed again."""


class _Dense:
    """The forward pass of a quantized layer in float32; it is not kept in the layer, so that it is no change of it."""

    def __init__(self, path: str, layer: nn.Module, forward: Callable[[Tensor], Tensor]) -> None:
        self.path, self.layer, self.forward, self.thread = path, layer, forward, threading.get_ident()

    def __call__(self, states: Tensor) -> Tensor:
        if threading.get_ident() != self.thread:
            return self.forward(states)

        layer: Any = self.layer
        if not states.is_floating_point():
            raise CannotLoad(
                f"the model converts the inputs of its layer {self.path} to {states.dtype}, the dtype of quantized "
                f"weights: leave this layer out with BitsAndBytesConfig(llm_int8_skip_modules=[{self.path!r}])"
            )

        dtype = computing_dtype(states.dtype)
        weight = [dense_weight(layer).to(dtype)]
        bias = None if layer.bias is None else layer.bias.to(dtype)

        def pack(tensor: Tensor) -> Tensor | _Layout:
            is_weight = any(tensor is dense or tensor._base is dense for dense in weight)
            return (tensor.shape, tensor.stride()) if is_weight else tensor

        def unpack(kept: Tensor | _Layout) -> Tensor:
            return kept if isinstance(kept, Tensor) else dense_weight(layer).to(dtype).as_strided(*kept)

        with saved_tensors_hooks(pack, unpack):
            out = F.linear(states, weight[0], bias)
        weight.clear()  # graphs keep pack, too
        return out
