"""Folders of sentence-transformers, whose ``modules.json`` lists what follows the encoder.

Its ``Dense`` modules are applied to embeddings if they are linear. Anything else that would change embeddings is
refused.
"""

from collections.abc import Callable, Mapping
from pathlib import Path, PurePosixPath
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from nibt.errors import CannotLoad
from nibt.io import load_json

NO_EFFECT = frozenset({"Dropout", "Identity", "Normalize", "Pooling"})
"""Modules after the encoder that need no layer: the family pools, and the length of an embedding has no effect."""
DENSE_WEIGHTS = ("model.safetensors", "pytorch_model.bin")
_ENCODERS = {"CLIPModel", "MultiModalTransformer", "Transformer"}  # the second is that of GME
_REMEDY = "its embeddings would be others; save the model without it, with the module merged into its weights"


def dense_folders(name: str, modules: Any, read: Callable[[str], Any]) -> list[str | None]:
    """Return the folders of the linear modules of a model in order, and None for each change to unit length."""
    try:
        listed = [(str(module["type"]).rpartition(".")[2], str(module.get("path", ""))) for module in modules]
    except (AttributeError, KeyError, TypeError) as error:
        raise CannotLoad(f"modules.json of {name!r} does not list the modules of sentence-transformers") from error
    folders: list[str | None] = []
    for class_name, path in listed:
        if class_name == "Dense":
            if not path or PurePosixPath(path).is_absolute() or ".." in PurePosixPath(path).parts:
                raise CannotLoad(f"{name!r} has the module Dense of sentence-transformers in no folder of its own")
            _check_dense(name, path, read(f"{path}/config.json"))
            folders.append(path)
        elif class_name == "Normalize":
            folders.append(None)
        elif class_name not in NO_EFFECT | _ENCODERS:
            raise CannotLoad(
                f"{name!r} has the module {class_name} of sentence-transformers after its encoder, which nibt does not "
                f"apply: {_REMEDY}"
            )
    return folders


def _check_dense(name: str, path: str, config: Any) -> None:
    """Check that a ``Dense`` module maps embeddings linearly. It has Tanh if its configuration names no activation."""
    module = f"{name!r} has the module Dense ({path}) of sentence-transformers"
    if not isinstance(config, Mapping) or not all(isinstance(config.get(key), int) for key in _SIZES):
        raise CannotLoad(f"{module} without {' and '.join(_SIZES)} in its config.json: save the model again")
    activation = str(config.get("activation_function", "Tanh")).rpartition(".")[2]
    if activation != "Identity":
        raise CannotLoad(f"{module} with the activation {activation}, and nibt applies linear modules only: {_REMEDY}")
    places = {config.get(key) or "sentence_embedding" for key in ("module_input_name", "module_output_name")}
    if places != {"sentence_embedding"}:
        raise CannotLoad(
            f"{module} for {min(places - {'sentence_embedding'})}, and nibt applies those of embeddings only: {_REMEDY}"
        )


_SIZES = ("in_features", "out_features")


def after_encoder(name: str, folder: Path, dtype: torch.dtype) -> nn.Sequential | None:
    """Return what a folder applies to embeddings after its encoder; None if nothing has an effect."""
    path = folder / "modules.json"
    if not path.is_file():
        return None

    def read(file: str) -> Any:
        try:
            return load_json(folder / file)
        except (OSError, ValueError) as error:
            raise CannotLoad(f"{folder / file} cannot be read ({error}): save the model again") from error

    folders = dense_folders(name, read("modules.json"), read)
    while folders and folders[-1] is None:  # similarities do not depend on lengths
        folders.pop()
    layers = [
        _UnitLength() if place is None else _Dense(folder / place, read(f"{place}/config.json"), dtype)
        for place in folders
    ]
    return nn.Sequential(*layers) if layers else None


def attached(module: nn.Module, after: nn.Module | None) -> nn.Module | None:
    """Make what follows the encoder a part of a module, so that the hash of its weights has it, and return it."""
    if after is not None:
        module.add_module("after_encoder", after.to(next(module.parameters()).device))
    return getattr(module, "after_encoder", None)


class _UnitLength(nn.Module):
    """Divides embeddings by their lengths."""

    def forward(self, embedding: Tensor) -> Tensor:
        return F.normalize(embedding, dim=-1)


class _Dense(nn.Linear):
    """The linear map of a ``Dense`` module, with its residual connection."""

    def __init__(self, folder: Path, config: Mapping[str, Any], dtype: torch.dtype) -> None:
        inside, outside = (config[key] for key in _SIZES)
        super().__init__(inside, outside, bool(config.get("bias", True)), device="meta")  # draws no random numbers
        weights = _weights(folder)
        residual = None
        if config.get("use_residual"):
            residual = (
                torch.eye(inside, dtype=torch.float32, device="cpu")
                if inside == outside
                else weights.pop("residual.weight", None)
            )
        shapes = {key: tuple(value.shape) for key, value in weights.items()}
        if shapes != {f"linear.{key}": tuple(value.shape) for key, value in self.named_parameters()}:
            raise CannotLoad(f"the weights in {folder} are not those of its config.json: save the model again")
        if residual is not None:
            weights["linear.weight"] = weights["linear.weight"] + residual
        for key, value in weights.items():
            setattr(self, key.removeprefix("linear."), nn.Parameter(value.to(dtype), requires_grad=False))

    def forward(self, embedding: Tensor) -> Tensor:
        if embedding.shape[-1] != self.in_features:
            raise CannotLoad(
                f"the module Dense of sentence-transformers takes embeddings of {self.in_features} numbers, and the "
                f"encoder gives {embedding.shape[-1]}: save the model again"
            )
        return super().forward(embedding)


def _weights(folder: Path) -> dict[str, Tensor]:
    """Read the weights of a module."""
    from safetensors.torch import load_file

    file = next((folder / name for name in DENSE_WEIGHTS if (folder / name).is_file()), None)
    if file is None:
        raise CannotLoad(f"{folder} has none of {', '.join(DENSE_WEIGHTS)}: save the model again")
    try:
        if file.suffix == ".safetensors":
            return load_file(file)
        return torch.load(file, map_location="cpu", weights_only=True)
    except Exception as error:  # both libraries raise many types
        raise CannotLoad(f"{file} has no weights that can be read: save or download the model again") from error
