"""What all loaded models have: their name, their weights and how they were loaded, with the digests of both."""

import hashlib
import json
from abc import ABC, abstractmethod
from collections.abc import Hashable, Sequence
from dataclasses import dataclass, field
from functools import partial
from hashlib import sha256
from itertools import chain
from pathlib import Path
from types import BuiltinFunctionType, FunctionType, MethodType, NoneType
from typing import Any, ClassVar, TypeVar, cast

import numpy as np
import torch
from torch import Tensor, nn

from nibt.errors import CannotLoad, reason
from nibt.io import load_json
from nibt.models._precision import is_quantized, quantization, state_of
from nibt.models._request import LoadRequest
from nibt.models._tower import Tower
from nibt.preprocessing.captions import Tokenizer
from nibt.preprocessing.images import Processor
from nibt.records import JsonObject
from nibt.registry import SERVED_METHOD, MethodSpec, available, find
from nibt.torch_modes import TensorHooks, backward_hooks_note, foreign_hooks, gradients_note
from nibt.types import ModelRecord

_VOLATILE = ("_name_or_path", "_attn_implementation", "transformers_version", "torch_dtype", "dtype", "processor_class")
_STATES = ("padding", "truncation")  # state of a fast tokenizer, which each call sets
_N_SUMS = 509  # prime, see _sums


def configuration_hash(module: nn.Module, processor: Processor, tokenizer: Tokenizer) -> str:
    """Compute a digest of the structure, hooks and configuration of a network, its image processor and its tokenizer.

    It has 16 hexadecimal digits.
    """
    # the text of a module has no numbers of heads
    heads = [(name, getattr(submodule, "num_heads", None)) for name, submodule in module.named_modules()]
    parts = [repr(module), *(f"{name} {count}" for name, count in heads if isinstance(count, int))]

    for name, submodule in module.named_modules():
        hooks = foreign_hooks(submodule).values()
        parts += [f"{name} {getattr(hook, '__qualname__', type(hook).__name__)}" for hook in hooks]

    parts += [_plain(getattr(module, "config", None)), _plain(processor), _tokenizer_text(tokenizer)]
    parts.append(_plain(getattr(getattr(module, "visual", None), "preprocess_cfg", None)))  # of OpenCLIP
    return sha256("\n".join(parts).encode()).hexdigest()[:16]


def _plain(component: Any) -> str:
    """Return the configuration of a part as text, without keys that do not change results."""
    if isinstance(component, nn.Module) or component is None:
        return repr(component)

    if hasattr(component, "to_dict"):
        component = component.to_dict()
    elif not isinstance(component, dict):
        text = repr(component)
        return type(component).__name__ if " at 0x" in text else text  # an address differs in each process
    return json.dumps(_without(component), sort_keys=True, default=str)


def _without(data: object) -> object:
    if isinstance(data, dict):
        return {str(key): _without(value) for key, value in data.items() if key not in _VOLATILE}
    return [_without(item) for item in data] if isinstance(data, list | tuple) else data


def _tokenizer_text(tokenizer: Tokenizer) -> str:
    inner = getattr(tokenizer, "tokenizer", tokenizer)  # OpenCLIP wraps tokenizers of Hugging Face
    length = f"{type(inner).__name__} {getattr(tokenizer, 'context_length', '')}"
    backend = getattr(inner, "backend_tokenizer", None)
    if backend is not None:
        data = load_json(backend.to_str())
        return length + json.dumps({key: value for key, value in data.items() if key not in _STATES}, sort_keys=True)

    vocabulary = inner.get_vocab() if hasattr(inner, "get_vocab") else getattr(inner, "encoder", None)
    return length + json.dumps(vocabulary, sort_keys=True, default=str)


def fingerprint(module: nn.Module) -> tuple[Hashable, ...]:
    """Read all weights once, at the speed of the memory, and return a key that differs after any change of a model.

    It covers which modules stand where, their numbers (such as the epsilon of a norm) and hooks, and all weights.
    """
    parts = tuple(module.modules())
    facts: list[Any] = []
    weights: list[Tensor] = []
    for part in parts:  # module.parameters() builds a name for each, which takes several times as long
        for item in vars(part).items():
            if issubclass(type(item[1]), _PLAIN):  # isinstance asks objects for their class, which takes longer
                facts.append(item)

        facts.append(None)  # the end of a part
        if part._forward_hooks or part._forward_pre_hooks:
            facts += foreign_hooks(part)
        tensors = (*part._parameters.values(), *part._buffers.values())
        if type(part._parameters.get("weight")) not in _PLAIN_WEIGHTS and is_quantized(part):
            from nibt.models._dense_layers import stored  # which only quantized models need

            tensors = (*stored(part).values(), *(tensor for tensor in tensors if tensor is not part.weight))
        for tensor in tensors:
            if tensor is None:
                continue
            facts.append((tensor.device, tensor.dtype))
            weights.append(tensor)

    threads = torch.get_num_threads()  # they determine how sums are rounded
    return parts, tuple(facts), tuple(_sums(weights)), threads


def _sums(tensors: Sequence[Tensor]) -> list[bytes]:
    """Return sums of the bits of each tensor, as whole numbers: any changed number changes one of them.

    Each sum is that of every 509th word of 8 bytes. Since 509 is a prime number, rows, columns or heads that change
    places change the sums, too.
    """
    sums = []
    for tensor in tensors:
        if tensor.is_meta:
            sums.append(b"")
            continue

        data = tensor.detach().contiguous().flatten().view(torch.uint8)
        whole = data.numel() // (_N_SUMS * 8) * (_N_SUMS * 8)
        if data.device.type == "cpu":  # NumPy needs half of the time of torch
            numbers = data.numpy()
            words = numbers[:whole].view(np.int64).reshape(-1, _N_SUMS)
            sums.append(words.sum(0).tobytes() + numbers[whole:].tobytes())
            continue

        if data.storage_offset() % 8:  # words of 8 bytes can be read from multiples of 8 only
            data = data.clone()
        of_words = data[:whole].view(torch.int64).view(-1, _N_SUMS).sum(0)
        sums.append(torch.cat([of_words.view(torch.uint8), data[whole:]]).cpu().numpy().tobytes())

    return sums


def check_usable(name: str, module: nn.Module) -> None:
    """Check that a model is not in training mode, and that its weights are in memory, on one device."""
    if any(submodule.training for submodule in module.modules()):
        raise CannotLoad("the model is in training mode, in which its output is random: call model.eval() first")

    for tensor in chain(module.parameters(), module.buffers()):
        kinds = {(ancestor.__module__.split(".")[0], ancestor.__name__) for ancestor in type(tensor).__mro__}
        if any(class_name == "DTensor" for _, class_name in kinds):
            raise CannotLoad(
                f"the weights of the {name} are spread over processes (DTensor): gather them with full_tensor(), load "
                "them into the plain model, and pass that"
            )
        if tensor.is_inference():
            raise CannotLoad(
                f"the {name} was created inside torch.inference_mode(), so gradients cannot flow through its weights: "
                "create it outside, or pass copy.deepcopy(model), called outside"
            )
        if tensor.is_meta and any(hasattr(submodule, "_hf_hook") for submodule in module.modules()):
            raise CannotLoad(f"layers of the {name} are offloaded by accelerate: {_ONE_DEVICE}")
        if tensor.is_meta:
            raise CannotLoad(
                f"the {name} has no weights, since they are on the device 'meta': create it inside "
                "torch.device('cpu') and load its weights"
            )

    devices = sorted({str(parameter.device) for parameter in module.parameters()})
    if len(devices) > 1:
        raise CannotLoad(f"the weights of the {name} are on several devices ({', '.join(devices)}): {_ONE_DEVICE}")


def _sets_tensor_hooks(tower: Tower) -> bool:
    """Return whether hooks are set on tensors while a blank input goes through the blocks with gradients."""
    try:
        cut = tower.trace(tower.empty_inputs()).cut(0)
        with TensorHooks() as hooks, torch.enable_grad():
            cut.rest(cut.hidden.detach().requires_grad_()[None])
    except Exception:  # of a hook, or without memory: the explanation has this error, or goes on in smaller batches
        return False
    return hooks.is_set


def is_served(source: object) -> bool:
    """Return whether a model, or what is given to load one, is behind a server."""
    if isinstance(source, LoadedModel):
        return source.is_served

    from nibt.models._names import is_address  # which loaded models do not need

    return is_address(source)


def default_method(source: object) -> str:
    """Return the method of explanations that name none, for a model or what is given to load one."""
    return SERVED_METHOD if is_served(source) else MethodSpec.name


AnyModel = TypeVar("AnyModel", bound="LoadedModel")
_ONE_DEVICE = (
    "load it on one device with device_map={'': 'cuda:0'} or 'cpu', and in 4 bits with "
    "quantization_config=BitsAndBytesConfig(load_in_4bit=True) if it does not fit there"
)
_PLAIN_WEIGHTS = (nn.Parameter, NoneType)
_PLAIN = (bool, int, float, str, FunctionType, BuiltinFunctionType, MethodType, partial)


@dataclass(frozen=True, eq=False, repr=False)
class LoadedModel(ABC):
    """Base class of loaded models."""

    is_served: ClassVar[bool] = False
    """Whether the model is behind a server: only its inputs can be changed, and each change costs a request."""

    id: str
    family: str
    module: nn.Module
    folder: Path | None = field(default=None, kw_only=True)
    request: LoadRequest = field(default_factory=LoadRequest, kw_only=True)
    kept: dict[Hashable, Any] = field(default_factory=dict, init=False)
    """What was computed with these weights, such as their digest; ``renewed`` drops it."""

    def __post_init__(self) -> None:
        parts = set(self.module.modules())
        if not any(tower.root in parts for tower in self.towers):
            raise CannotLoad("the towers are not those of the module: load another module with load_model(module)")

    @property
    @abstractmethod
    def towers(self) -> Sequence[Tower]:
        """The towers."""

    @property
    @abstractmethod
    def item_ndim(self) -> int:
        """The number of dimensions of what a tower computes of one item: 1 for a vector, 2 for several."""

    def renewed(self: AnyModel, anew: bool = False) -> AnyModel:
        """Return the model without what was computed with other weights: they may have been changed in place.

        Every public call starts with it. All weights are hashed ``anew`` where the hash identifies results that are
        stored for long.
        """
        state = fingerprint(self.module)
        if not anew and self.kept.get("weights") == state:
            return self

        # a state is (modules, their facts, sums of weights, threads)
        before: Any = self.kept.get("weights", state)
        has_same_parts = before[:2] == state[:2]
        has_same_weights = before[:3] == state[:3]

        # the configuration does not depend on weights, and a check that the towers passed does not depend on threads
        names = ("configuration", "checked") if has_same_weights else ("configuration",)
        lasting = {name: self.kept[name] for name in names if name in self.kept}
        if not has_same_parts:
            check_usable(f"model {self.id!r}", self.module)
            lasting = {}

        # towers hold parts of the model and numbers that were read from it, which may have been replaced
        for tower in self.towers:
            tower.kept.clear()
        if not has_same_weights and self.family in available("models"):
            try:
                for tower, renewed in zip(self.towers, self._towers_anew(find("models", self.family)), strict=True):
                    tower.become(renewed)
            except (AttributeError, LookupError, RuntimeError) as error:  # of a model that lacks parts
                raise CannotLoad(
                    f"the model {self.id!r} was changed after it was loaded, and lacks what it computes with "
                    f"({reason(error)}): undo the change, or load it again"
                ) from error

        self.kept.clear()
        self.kept.update(lasting, weights=state)
        return self

    @abstractmethod
    def _towers_anew(self, family: Any) -> Sequence[Tower]:
        """Return the towers of the model as it is now, in which modules may have been replaced."""

    @property
    def notes(self) -> tuple[str, ...]:
        """Warnings about the model, for all of its results."""
        if "tensor hooks" not in self.kept:  # until hooks or weights change
            self.kept["tensor hooks"] = self._tensor_hooks_note()
        return (*self.request.notes, *backward_hooks_note(self.module), *self.kept["tensor hooks"])

    def _tensor_hooks_note(self) -> list[str]:
        """Return a note if forward hooks of the user set hooks on tensors, which act whenever nibt takes gradients."""
        names = [name or "the model" for name, part in self.module.named_modules() if foreign_hooks(part)]
        if not names or not any(map(_sets_tensor_hooks, self.towers)):
            return []
        return gradients_note("the forward hooks on {} set hooks on tensors", names)

    @property
    def weights_hash(self) -> str:
        """The digest of the weights in their dtype, 16 hexadecimal digits."""
        if "weights_hash" not in self.renewed().kept:
            digest = hashlib.sha256()
            for name, tensor in sorted(state_of(self.module).items()):
                digest.update(name.encode())
                digest.update(tensor.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().tobytes())
            self.kept["weights_hash"] = digest.hexdigest()[:16]
        return self.kept["weights_hash"]

    @property
    def configuration_hash(self) -> str:
        """The digest of the configuration of the network, image processor and tokenizer, 16 hexadecimal digits."""
        if "configuration" not in self.kept:
            processors = self.request.image_processor, self.request.text_tokenizer
            self.kept["configuration"] = configuration_hash(self.module, *processors)
        return self.kept["configuration"]

    @property
    def dtype(self) -> str:
        """The name of the dtype of the weights; a model in half precision computes in float32."""
        return str(self.towers[0].example.dtype).removeprefix("torch.")

    @property
    def quantization(self) -> str | None:
        """How weights are quantized, such as ``nf4 (bitsandbytes)``; None if they are not."""
        return quantization(self.module)

    @property
    def precision(self) -> str:
        """The dtype of the weights and how others are quantized, as text."""
        return ", ".join(filter(None, (self.dtype, self.quantization)))

    @property
    def device(self) -> str:
        """The name of the device of the model."""
        return str(self.towers[0].example.device)

    def __repr__(self) -> str:
        return "\n".join(
            [
                f"{type(self).__name__} {self.id} ({self.family}), {self.precision} on {self.device}, weights "
                f"{self.weights_hash}",
                *(f"  {tower.modality:6} {type(tower).__name__} of {tower.depth} blocks" for tower in self.towers),
            ]
        )

    def facts(self) -> ModelRecord:
        """Return the record with the name instead of the path of a local model, for files that are shared."""
        return {**self.record(), "id": Path(self.id).name if Path(self.id).is_dir() else self.id}

    def record(self) -> ModelRecord:
        """Return plain data that identify the model: its name, its weights and how images are prepared."""
        if "record" not in self.kept:
            record: JsonObject = {
                "id": self.id,
                "family": self.family,
                "weights_hash": self.weights_hash,
                "configuration_hash": self.configuration_hash,
                "dtype": self.dtype,
                "device": self.device,
                **({"quantization": self.quantization} if self.quantization else {}),
                "resize": self.request.resize or "model",
                "image_size": self.request.image_size,
                **({"variant": self.request.variant} if self.request.variant else {}),
                **self._own_facts(),
                **self.request.facts,
            }
            self.kept["record"] = record
        return cast(ModelRecord, dict(self.kept["record"]))

    def _own_facts(self) -> JsonObject:
        """Return what only some models record."""
        return {}
