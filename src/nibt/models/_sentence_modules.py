"""What a folder of sentence-transformers applies to embeddings after the encoder, as its ``modules.json`` lists it.

``Dense`` modules are applied if they are linear. Anything else that would change embeddings is refused.
"""

from collections.abc import Callable, Mapping
from pathlib import Path, PurePosixPath
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from nibt.errors import CannotLoad
from nibt.io import load_json
from nibt.models._saved import SENTENCE_MODULES
from nibt.records import JsonObject

NO_EFFECT = frozenset({"Dropout", "Identity", "Normalize", "Pooling"})
"""Modules after the encoder that need no layer: the family pools, and the length of an embedding has no effect."""
RERANKER = (
    'whose score is the logit of a word that it would write: explain its encoder with explain_answer, answer="yes" '
    'and against="no" (the reference of models has an example)'
)
DENSE_WEIGHTS = ("model.safetensors", "pytorch_model.bin")
_ENCODERS = {"CLIPModel", "MultiModalTransformer", "Transformer"}  # the second is that of GME
_REMEDY = "its embeddings would be others; save the model without it, with the module merged into its weights"


def dense_folders(name: str, modules: Any, read: Callable[[str], JsonObject]) -> list[str | None]:
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
        elif class_name == "LogitScore":
            raise CannotLoad(f"{name!r} is a reranker, {RERANKER}")
        elif class_name == "MultiVectorMask" and not read(f"{path}/config.json").get("keep_only_token_ids"):
            continue  # it leaves out padding, and words of documents that are texts
        elif class_name not in NO_EFFECT | _ENCODERS:
            raise CannotLoad(
                f"{name!r} has the module {class_name} of sentence-transformers after its encoder, which nibt does not "
                f"apply: {_REMEDY}"
            )

    return folders


def _check_dense(name: str, path: str, config: object) -> None:
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


TEXT_SETTINGS = ("sentence_bert_config.json", "config_sentence_transformers.json")
_TEXTS_REMEDY = (
    "set default_prompt_name in config_sentence_transformers.json to null and pass text_prompt, or do_lower_case in "
    "sentence_bert_config.json to false and give texts in small letters"
)
_SIZES = ("in_features", "out_features")


def check_texts(name: str, transformer: JsonObject, prompts: JsonObject, has_prompt: bool) -> None:
    """Check by configurations of sentence-transformers that it does not change texts."""
    compared = prompts.get("similarity_fn_name") or "cosine"
    if compared not in ("cosine", "maxsim"):
        raise CannotLoad(
            f"{name} compares embeddings by {compared!r} in sentence-transformers, and nibt by the cosine: set "
            "similarity_fn_name to 'cosine'"
        )

    names = ("query", "document") if prompts.get("model_type") == "MultiVectorEncoder" else ()
    texts = prompts.get("prompts") or {}
    prompt = next(filter(None, map(texts.get, (prompts.get("default_prompt_name"), *names))), None)
    if transformer.get("do_lower_case") or (prompt and not has_prompt):
        what = f"puts {prompt!r} before each text" if prompt else "changes texts to small letters"
        raise CannotLoad(f"{name} {what} in sentence-transformers, and nibt does not: {_TEXTS_REMEDY}")


_POOLINGS = {"mean": "mean", "mean_tokens": "mean", "cls": "cls", "cls_token": "cls"}


def pooling_of_texts(name: str, folder: Path) -> str:
    """Return how the folder of a text encoder pools the states of tokens: ``mean``, or ``cls`` for the first one."""
    path = folder / "1_Pooling" / "config.json"
    try:
        modes = pooling_modes(load_json(path))
    except (OSError, ValueError, AttributeError) as error:
        raise CannotLoad(f"{path} cannot be read ({error}): save the model again") from error

    if len(modes) != 1 or modes[0] not in _POOLINGS:
        raise CannotLoad(
            f"{name!r} pools the states of its tokens by {' and '.join(modes) or 'nothing'}, and nibt by their mean or "
            "the first one: use another text model"
        )
    return _POOLINGS[modes[0]]


def pooling_modes(config: JsonObject) -> list[str]:
    """Return the modes of pooling in the configuration of a ``Pooling`` module, of which several are concatenated."""
    prefix = "pooling_mode_"
    flags = [key.removeprefix(prefix) for key, value in config.items() if key.startswith(prefix) and value is True]
    modes = config.get("pooling_mode") or flags
    return [modes] if isinstance(modes, str) else list(modes)


def after_encoder(name: str, folder: Path, dtype: torch.dtype, has_prompt: bool = False) -> nn.Sequential | None:
    """Return what the modules of a folder apply to embeddings after its encoder; None if nothing has an effect.

    A prompt of the folder is no error if the request has one.
    """

    def read(file: str) -> Any:
        try:
            return load_json(folder / file)
        except (OSError, ValueError) as error:
            raise CannotLoad(f"{folder / file} cannot be read ({error}): save the model again") from error

    folders = dense_folders(name, read(SENTENCE_MODULES), read)
    texts, prompts = (read(file) if (folder / file).is_file() else {} for file in TEXT_SETTINGS)
    check_texts(repr(name), texts, prompts, has_prompt or "message" in (texts.get("modality_config") or {}))
    while folders and folders[-1] is None:  # similarities do not depend on lengths
        folders.pop()
    layers: list[nn.Module] = [
        UnitLength() if place is None else _Dense(folder / place, read(f"{place}/config.json"), dtype)
        for place in folders
    ]
    if dimension := prompts.get("truncate_dim"):
        layers.append(Truncated(dimension))
    return nn.Sequential(*layers) if layers else None


class Truncated(nn.Module):
    """Keeps the first numbers of embeddings (Matryoshka)."""

    def __init__(self, dimension: int) -> None:
        super().__init__()
        self.dimension = dimension

    def forward(self, embedding: Tensor) -> Tensor:
        return embedding[..., : self.dimension]


class UnitLength(nn.Module):
    """Divides embeddings by their lengths."""

    def forward(self, embedding: Tensor) -> Tensor:
        return F.normalize(embedding, dim=-1)


class _Dense(nn.Linear):
    """The linear map of a ``Dense`` module, with its residual connection."""

    def __init__(self, folder: Path, config: JsonObject, dtype: torch.dtype) -> None:
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
