"""Quantized linear maps, of bitsandbytes and torchao, which keep only their weights, and compute in float32.

Each map computes with the numbers that its weight stands for. They are computed when they are needed, also for
gradients, and not kept. The maps' own forward passes would be no replacement: on some processors, those of bitsandbytes
repack the weights in place and then pass no gradients, and they convert biases in place. LLM.int8 rounds the inputs of
its maps to 8 bits, as half precision rounds them to 8 or 11; both are left out.
"""

import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from copy import copy
from typing import Any, TypeAlias

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.autograd.graph import saved_tensors_hooks
from torch.utils._python_dispatch import is_traceable_wrapper_subclass

from nibt.errors import CannotLoad
from nibt.models._precision import computing_dtype, float32_arithmetic, has_4_bits, has_8_bits


def dense_weight(layer: nn.Module) -> Tensor:
    """Return the numbers that the weight of a quantized linear map stands for, in float32."""
    weight: Any = layer.weight
    if has_8_bits(weight):
        return weight.data.float() * (_scales(layer)[".SCB"][:, None] / 127)

    if not has_4_bits(weight):
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
    if has_8_bits(weight):
        state: Any = layer.state  # has the scales after the first call of the layer
        return {".SCB": state.SCB if weight.SCB is None else weight.SCB}

    held = {"": weight.quant_state, ".state2": getattr(weight.quant_state, "state2", None)}
    numbers = {f"{end}.{key}": value for end, state in held.items() if state for key, value in vars(state).items()}
    return {key: value for key, value in numbers.items() if isinstance(value, Tensor)}


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
