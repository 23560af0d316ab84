"""Why a model cannot be loaded, in words: what a hub answers, and which file of a folder is broken."""

import math
import zipfile
from asyncio import CancelledError
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from hashlib import sha256
from importlib.resources import files
from pathlib import Path, PurePosixPath
from re import fullmatch
from typing import Any

import torch
from torch import nn

from nibt.errors import CannotLoad, NibtError, reason
from nibt.io import load_json
from nibt.records import JsonObject
from nibt.torch_modes import without_warnings

REFERENCE = "the reference of models lists the supported classes"
DUAL = f"use a model that embeds images and captions ({REFERENCE})"
_SOURCE = "use the repository from which it was converted, which has weights for Transformers"
_LOG_IN = "log in with 'hf auth login'"
_LONGEST = 300  # characters of a sentence of a hub


class WritesText(CannotLoad):
    """A model writes text about images, and no image can be compared with a caption."""


def refusal(error: BaseException) -> str | None:
    """Return what the hub answered and what to do about it; None if the error is not an answer of a hub."""
    from huggingface_hub import errors

    for cause in _causes(error):
        if isinstance(cause, errors.HfHubHTTPError):
            return _answer(cause)
        if str(cause).startswith("Consistency check failed"):
            return f"the download broke off ({line(cause).removeprefix('Consistency check failed: ')}): try again"
    return None


def no_connection(error: BaseException) -> str | None:
    """Return why no hub could be asked; None if the error is another."""
    from huggingface_hub import constants, errors

    for cause in _causes(error):
        if isinstance(cause, errors.OfflineModeIsEnabled):
            return (
                "HF_HUB_OFFLINE is set, and the cache does not have all of it: unset it to download, or copy the cache "
                "of a machine with network"
            )
        if isinstance(cause, errors.HTTPError):
            return (
                f"the cache does not have all of it, and the hub {constants.ENDPOINT} cannot be reached "
                f"({line(cause)}): check the connection"
            )
    return None


def _causes(error: BaseException | None) -> Iterator[BaseException]:
    seen: set[int] = set()
    while error is not None and id(error) not in seen:
        yield error
        seen.add(id(error))
        error = error.__cause__ or error.__context__


def _answer(error: Any) -> str:
    """Return the sentence for an answer of the hub that is an error."""
    from huggingface_hub import constants, errors

    status = error.response.status_code
    words = " ".join((error.server_message or "").split()).rstrip(".")[:_LONGEST]
    says = f" ({words})" if words else f" (status {status})"
    address = str(error.response.url)
    path = address.partition("?")[0].removeprefix(constants.ENDPOINT).strip("/").removeprefix("api/models/")
    repository = getattr(error, "repo_id", None) or "/".join(path.split("/")[:2])

    if isinstance(error, errors.GatedRepoError):
        page = f"{constants.ENDPOINT}/{repository}"
        return f"{repository} is gated{says}: {_LOG_IN}, and accept its terms at {page}"
    if isinstance(error, errors.DisabledRepoError):
        return f"{repository} is disabled on the hub{says}: use another model"
    if isinstance(error, errors.RevisionNotFoundError):
        return f"{repository} has no such revision{says}: check the name after the @"
    if isinstance(error, errors.EntryNotFoundError):
        return f"{repository} lacks the file {address.rpartition('/')[2]}{says}"
    if status == 401 and "credentials" in words.lower():
        return f"the hub rejects your token{says}: {_LOG_IN} again"
    if isinstance(error, errors.RepositoryNotFoundError) or status in (401, 404):
        return f"{repository} is not on the hub, or is private{says}: check the name; if it is private, {_LOG_IN}"
    if status == 403:
        return f"the hub forbids access to {repository}{says}: {_LOG_IN}, and check what your token may read"
    if status == 429:
        wait = _wait(error.response.headers)
        return f"the hub limits your requests{says}: {wait} and try again, or {_LOG_IN}, which raises the limit"
    return f"the hub answers with status {status}{says}: try again later"


def _wait(headers: Any) -> str:
    from huggingface_hub.utils import parse_ratelimit_headers

    seconds = headers.get("retry-after", "")
    limit = parse_ratelimit_headers(headers)
    if limit is not None and limit.remaining == 0:
        seconds = limit.reset_in_seconds
    return f"wait {seconds} seconds" if str(seconds).isdigit() else "wait"


def broken_file(folder: Path | None) -> str | None:
    """Return which file of a folder is broken and what to do about it; None if none is."""
    if folder is None or not folder.is_dir():
        return None

    for file in sorted(folder.iterdir()):
        defect = _defect(file) if file.is_file() else None
        if defect is None:
            continue

        if any(name.startswith("models--") for name in file.parts):  # the cache of a hub, which has links to files
            in_cache = f"{file.name} in the cache, which is {file.resolve()},"
            return f"the file {in_cache} is broken ({defect}): delete it, and load the model again"
        return f"the file {file} is broken ({defect}): save the model again"
    return None


def _defect(file: Path) -> str | None:
    try:
        if file.suffix == ".json":
            load_json(str(file.read_bytes(), "utf-8"))  # strictly, as Transformers
        elif file.suffix == ".safetensors":
            from safetensors import safe_open

            with safe_open(str(file), "pt"):
                pass
        elif file.suffix in (".bin", ".pt") and _is_cut(file):
            return "its end is missing"
    except Exception as error:  # of several libraries
        return line(error)
    return _changed(file)


def _is_cut(file: Path) -> bool:
    with file.open("rb") as stream:
        start = stream.read(2)
    return not start or (start == b"PK" and not zipfile.is_zipfile(file))


def _changed(file: Path) -> str | None:
    """Compare a weight file in the cache with its name there, which is its digest."""
    name = file.resolve().name
    if not file.is_symlink() or not fullmatch(r"[0-9a-f]{64}", name):
        return None
    digest = sha256()
    with file.open("rb") as stream:
        while block := stream.read(1 << 24):
            digest.update(block)
    return None if digest.hexdigest() == name else "its digest is another than that of the hub"


def line(error: BaseException) -> str:
    """Return the first line of a message, and the second if the first ends with a colon."""
    if isinstance(error, KeyError):  # whose message is only the key
        return f"unknown key {error}"

    lines = (str(error).strip() or type(error).__name__).split("\n")
    count = 2 if lines[0].rstrip(". ").endswith(":") else 1
    return " ".join(text.strip() for text in lines[:count]).rstrip(".")[:_LONGEST]


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
        return line(error)

    keys = [key for key, value in _values(json_object(path)) if error.args and value == error.args[0]]
    return f"unknown {keys[0]} {error}" if keys else f"it lacks {error}"


def check_files(name: str, folder: Path, config: JsonObject) -> None:
    """Check that the files of a folder are not those of another program, such as llama.cpp or MLX."""
    problem = problem_of_files((path.name for path in folder.iterdir()), config)
    if problem is not None:
        raise CannotLoad(f"cannot load the model {name!r}: {problem}")


def _numbers(data: Any) -> Iterator[tuple[str, int]]:
    """Yield the whole numbers in the values of a configuration, with their keys."""
    yield from ((key, value) for key, value in _values(data) if isinstance(value, int))


def _values(data: Any, key: str = "") -> Iterator[tuple[str, Any]]:
    """Yield the numbers and texts in a configuration, with their keys."""
    if isinstance(data, dict):
        for name, value in data.items():
            yield from _values(value, str(name))
    elif isinstance(data, list):
        for value in data:
            yield from _values(value, key)
    else:
        yield key, data


EMBEDDED = Path(str(files("nibt") / "models" / "embedded"))
"""The folder of the models that ship with the package."""


def embedded() -> list[str]:
    """Return the names of the models that ship with the package."""
    return sorted(path.parent.name for path in EMBEDDED.glob("*/nibt.json"))


def embedded_generators() -> list[str]:
    """Return the names of the generators that ship with the package."""
    return sorted(path.parent.name for path in EMBEDDED.glob("*/generator.json"))


_RAISED = (KeyboardInterrupt, SystemExit, GeneratorExit, CancelledError, MemoryError)
"""What is no failure of a library. The panic of one in Rust, as for a damaged tokenizer.json, is no ``Exception``."""


@contextmanager
def loading(name: str, folder: Path | None = None) -> Iterator[None]:
    """Convert the exceptions of libraries to ``CannotLoad``, which names a file of the folder if that is broken."""
    try:
        with torch.random.fork_rng(devices=[]):  # libraries draw weights before they read those of the file
            yield
    except _RAISED:
        raise
    except BaseException as error:  # libraries raise many types
        if isinstance(error, NibtError) and not isinstance(error, CannotLoad):
            raise

        # a broken file is named also where a message of nibt itself says less
        broken = broken_file(folder)
        if broken is not None:
            raise CannotLoad(f"cannot load the model {name!r}: {broken}") from error
        if isinstance(error, NibtError):
            raise
        raise CannotLoad(f"cannot load the model {name!r}: {_cause(error)}") from error


def _cause(error: BaseException) -> str:
    """Return what the hub answered, why it cannot be asked, or the message of a library."""
    answer = refusal(error)
    if answer is not None:
        return answer

    connection = no_connection(error)
    if connection is not None:
        return f"{connection}. Without a hub, use {alternatives()}"
    return line(error)


@contextmanager
def step(name: str, problem: str, remedy: str) -> Iterator[None]:
    """Convert the exceptions of libraries in one step of loading to ``CannotLoad``, which says what to correct."""
    try:
        yield
    except (NibtError, *_RAISED):
        raise
    except BaseException as error:  # libraries raise many types
        if no_connection(error) or refusal(error):
            raise
        raise CannotLoad(f"cannot load the model {name!r}: {problem} ({line(error)}): {remedy}") from error


def embedded_hint(name: str) -> str:
    """Return what to write instead of an embedded model with a suffix, such as ``lite:256``, or nothing."""
    model, colon, suffix = name.partition(":")
    if not colon or model not in (*embedded(), *embedded_generators()):
        return ""
    size = f" For images of another size: image_size={suffix} (--load image_size={suffix})." if suffix.isdigit() else ""
    return f" The embedded model {model} takes nothing after a colon: write {model}.{size}"


def alternatives() -> str:
    """Return the models that need no hub."""
    models, generators = (", ".join(names) or "none installed" for names in (embedded(), embedded_generators()))
    return (
        f"an embedded model ({models}; for answers {generators}), or the path of a local folder with a saved Hugging "
        "Face or OpenCLIP model"
    )
