"""Checks of the files of a saved model, before one of its size is created."""

import math
import re
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path, PurePosixPath

import torch
from torch import nn

from nibt.errors import CannotLoad, first_line, reason
from nibt.io import load_json
from nibt.models._embedded import EMBEDDED
from nibt.models._failures import DUAL
from nibt.records import JsonObject
from nibt.torch_modes import without_warnings

ADAPTERS = "adapter_config.json"
"""The file of PEFT adapters."""
SENTENCE_MODULES = "modules.json"
"""The file of sentence-transformers that lists what follows the encoder."""
_SOURCE = "use the repository from which it was converted, which has weights for Transformers"


_WEIGHTS_OF_TRANSFORMERS = ("model.safetensors", "pytorch_model.bin")
_OF_VARIANT = (
    r"model\.([\w-]+)\.safetensors",
    r"model\.safetensors\.index\.([\w-]+)\.json",
    r"pytorch_model\.([\w-]+)\.bin",
    r"pytorch_model\.bin\.index\.([\w-]+)\.json",
)
"""The names of the files of a variant, and of the lists of the parts of one."""
_PART = re.compile(r".*-\d{5}-of-\d{5}")  # such as fp16-00001-of-00002


def with_variant(file: str, variant: str | None) -> str:
    """Return the name of the file of a variant of weights, which Transformers writes before its last dot.

    >>> with_variant("model.safetensors", "fp16"), with_variant("model.safetensors.index.json", "fp16")
    ('model.fp16.safetensors', 'model.safetensors.index.fp16.json')
    """
    if variant is None:
        return file
    path = PurePosixPath(file)
    return f"{path.stem}.{variant}{path.suffix}"


def problem_of_variant(files: Iterable[str], variant: str | None) -> str | None:
    """Return why files have no weights of a variant, and which they have; None if they have, or have others."""
    names = {PurePosixPath(file).name for file in files}
    variants: dict[str, str] = {}  # with a file of each
    for name in sorted(names):
        for pattern in _OF_VARIANT:
            match = re.fullmatch(pattern, name)
            if match and not _PART.fullmatch(match[1]):
                variants[match[1]] = name

    plain = {name for file in _WEIGHTS_OF_TRANSFORMERS for name in (file, f"{file}.index.json") if name in names}
    if variant in variants or (variant is None and (plain or not variants)):
        return None

    listed = ", ".join(f"{name!r} ({file})" for name, file in variants.items())
    if variant is None:
        first = next(iter(variants))
        return (
            f"it has weights only of the variant {listed}: load it with variant={first!r}, or on the command line with "
            f"--load variant={first}"
        )
    others = f"it has those of {listed}" if listed else "leave variant out"
    return f"it has no weights of the variant {variant!r}: {others}"


def problem_of_files(files: Iterable[str], config: JsonObject) -> str | None:
    """Return why no model can be loaded from these files, and what to do; None if they may be those of Transformers."""
    names = sorted(PurePosixPath(file).name for file in files)
    weights = any(name.endswith((".safetensors", ".bin", ".safetensors.index.json")) for name in names)

    gguf = next((name for name in names if name.endswith(".gguf")), None)
    if gguf is not None and not weights:
        return f"its weights are in GGUF, the format of llama.cpp ({gguf}): {_SOURCE}"

    quantization = config.get("quantization")
    of_mlx = isinstance(quantization, dict) and "group_size" in quantization
    if of_mlx or "weights.npz" in names:
        return f"it was converted for MLX, whose weights Transformers does not read: {_SOURCE}"

    if "model_index.json" in names:
        return f"it is a pipeline of diffusers, which draws images: {DUAL}"
    return None


def json_object(path: Path) -> JsonObject:
    """Return the object of a JSON file of a model; an empty one without the file."""
    try:
        data = load_json(path) if path.exists() else {}
    except (OSError, ValueError) as error:
        raise CannotLoad(f"{path} is not a file of valid JSON ({reason(error)})") from error

    if not isinstance(data, dict):
        raise CannotLoad(f"{path} must be a JSON object (got a {type(data).__name__})")
    return data


_MOST_LAYERS = 10_000
_LAYERS = ("layer", "depth", "blocks")
_NO_COUNTS = ("size", "dim", "eps")  # such as vocab_size_per_layer_input and layer_norm_eps


def check_layers(name: str, folder: Path) -> None:
    """Check that no number of layers in the configurations of a folder is beyond any model: to create them takes time.

    ``check_built`` checks the other sizes by what they are for: the number of weights.
    """
    for file in ("config.json", "open_clip_config.json"):
        for key, value in _numbers(json_object(folder / file)):
            if _counts_layers(key) and abs(value) > _MOST_LAYERS:
                raise CannotLoad(
                    f"cannot load the model {name!r}: {key} in its {file} must be at most {_MOST_LAYERS:,} (got "
                    f"{value:,}): correct the file, or save the model again"
                )


def _counts_layers(key: str) -> bool:
    return any(part in key for part in _LAYERS) and not any(part in key for part in _NO_COUNTS)


_WEIGHTS = (".safetensors", ".bin", ".pt", ".pth")
_PER_BYTE = 4  # the most weights in a byte of a file; 4 bits are two
_USUAL = 1_000_000  # no size in a configuration is larger
_MOST_COMPUTED = 2**28  # numbers that a model computes and no file has, such as masks


def check_built(name: str, folder: Path, file: str, build: Callable[[], nn.Module]) -> None:
    """Check that a configuration describes a model, and one that its files can hold, before memory is allocated.

    The model is created on torch's meta device, where weights have shapes and no memory. A model that cannot be created
    there is not checked.
    """
    if folder.parent == EMBEDDED:  # it ships with nibt, whose tests load it
        return

    remedy = f"{_largest(folder / file)}correct {file}, or save the model again"
    try:
        with without_warnings(), torch.device("meta"):
            module = build()
    except Exception as error:  # libraries raise many types
        if "meta" in str(error):
            return
        raise CannotLoad(
            f"cannot load the model {name!r}: its {file} must describe a model ({_with_key(error, folder / file)}): "
            f"{remedy}"
        ) from error

    weights = {key: weight.shape for key, weight in module.named_parameters()}
    computed = sum(buffer.numel() for buffer in module.buffers())
    count = sum(map(math.prod, weights.values()))
    room = _PER_BYTE * sum(path.stat().st_size for path in folder.iterdir() if path.suffix in _WEIGHTS)
    if (room and count > room) or computed > _MOST_COMPUTED:
        largest = max(weights, key=lambda key: math.prod(weights[key]))
        raise CannotLoad(
            f"cannot load the model {name!r}: by its {file} it has {count + computed:,} numbers, most of them in "
            f"{largest!r} of shape {tuple(weights[largest])}, and the files of its weights are too small for them: "
            f"{remedy}"
        )


def _largest(path: Path) -> str:
    """Return the largest number of a configuration if it is beyond usual sizes, as a part of a message."""
    value, key = max(((value, key) for key, value in _numbers(json_object(path))), default=(0, ""))
    return f"its largest number is {key}={value:,}; " if value > _USUAL else ""


def _with_key(error: Exception, path: Path) -> str:
    """Return the message of an error, with the key in a configuration that has the unknown name."""
    if not isinstance(error, KeyError):
        return first_line(error)

    keys = [key for key, value in _values(json_object(path)) if error.args and value == error.args[0]]
    return f"unknown {keys[0]} {error}" if keys else f"it lacks {error}"


def check_files(name: str, folder: Path, config: JsonObject, variant: str | None = None) -> None:
    """Check that the files of a folder are not those of another program, and that it has the variant of weights."""
    files = [path.name for path in folder.iterdir()]
    problem = problem_of_files(files, config) or problem_of_variant(files, variant)
    if problem is not None:
        raise CannotLoad(f"cannot load the model {name!r}: {problem}")


def _numbers(data: object) -> Iterator[tuple[str, int]]:
    """Yield the whole numbers in the values of a configuration, with their keys."""
    yield from ((key, value) for key, value in _values(data) if isinstance(value, int))


def _values(data: object, key: str = "") -> Iterator[tuple[str, object]]:
    """Yield the numbers and texts in a configuration, with their keys."""
    if isinstance(data, dict):
        for name, value in data.items():
            yield from _values(value, str(name))
    elif isinstance(data, list):
        for value in data:
            yield from _values(value, key)
    else:
        yield key, data
