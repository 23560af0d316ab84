"""The digest of what determines a result besides the weights: the configuration and the preparation of inputs."""

import json
from hashlib import sha256
from typing import Any

from torch import nn

_VOLATILE = ("_name_or_path", "_attn_implementation", "transformers_version", "torch_dtype", "dtype", "processor_class")
_STATES = ("padding", "truncation")  # state of a fast tokenizer, which each call sets


def configuration_hash(module: nn.Module, processor: Any, tokenizer: Any) -> str:
    """Compute a digest of the structure and configuration of a network, its image processor and its tokenizer.

    It has 16 hexadecimal digits.
    """
    heads = [(name, getattr(submodule, "num_heads", None)) for name, submodule in module.named_modules()]
    parts = [repr(module), *(f"{name} {count}" for name, count in heads if isinstance(count, int))]  # no repr has them
    parts += [_plain(getattr(module, "config", None)), _plain(processor), _tokenizer_text(tokenizer)]
    parts.append(_plain(getattr(getattr(module, "visual", None), "preprocess_cfg", None)))  # of OpenCLIP
    return sha256("\n".join(parts).encode()).hexdigest()[:16]


def _plain(component: Any) -> str:
    """Return the configuration of a part as text, without keys that do not change results."""
    if isinstance(component, nn.Module) or component is None:
        return repr(component)
    data = component.to_dict() if hasattr(component, "to_dict") else component if isinstance(component, dict) else None
    if data is None:
        text = repr(component)
        return type(component).__name__ if " at 0x" in text else text
    return json.dumps(_without(data), sort_keys=True, default=str)


def _without(data: Any) -> Any:
    if isinstance(data, dict):
        return {str(key): _without(value) for key, value in data.items() if key not in _VOLATILE}
    return [_without(item) for item in data] if isinstance(data, list | tuple) else data


def _tokenizer_text(tokenizer: Any) -> str:
    inner = getattr(tokenizer, "tokenizer", tokenizer)  # OpenCLIP wraps tokenizers of Hugging Face
    length = f"{type(inner).__name__} {getattr(tokenizer, 'context_length', '')}"
    backend = getattr(inner, "backend_tokenizer", None)
    if backend is not None:
        data = json.loads(backend.to_str())
        return length + json.dumps({key: value for key, value in data.items() if key not in _STATES}, sort_keys=True)
    vocabulary = inner.get_vocab() if hasattr(inner, "get_vocab") else getattr(inner, "encoder", None)
    return length + json.dumps(vocabulary, sort_keys=True, default=str)
