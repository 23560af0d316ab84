"""What people write as the name of a model on the hub or of OpenCLIP, and the options with which a model is loaded.

A name that could mean several models is an error that lists what to write; it is never guessed.
"""

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path
from typing import Annotated, Any, Literal, TypeAlias
from urllib.parse import unquote, urlsplit

import torch
from PIL import Image
from torch import nn

from nibt.errors import BadOption, CannotLoad, UnknownName
from nibt.io import read_text, unicode_text
from nibt.options import ImageSize, OneOf, complete, field_types
from nibt.preprocessing.captions import Tokenizer
from nibt.preprocessing.images import Processor
from nibt.records import JsonObject
from nibt.torch_modes import without_warnings

EmbedImages: TypeAlias = Callable[[list[Image.Image]], object]
EmbedTexts: TypeAlias = Callable[[list[str]], object]
"""Functions of a user, whose results are checked."""
OPEN_CLIP = "open_clip:"
_SCHEMES = ("hf-hub:", "hf_hub:", "hf://")
_PART = r"[A-Za-z0-9][\w.\-]*"
_NAME = re.compile(
    rf"(?P<repository>{_PART}/{_PART})(?:@(?P<revision>[\w.\-/]+))?(?::(?P<folder>[\w.\-]+(?:/[\w.\-]+)*))?"
)
_PLACES = ("tree", "blob", "resolve", "raw")  # of a page, before the revision
_OTHERS = ("datasets", "spaces", "collections", "papers", "docs", "blog", "posts", "buckets")
_PYTORCH_ONLY = ("Could not run", "Expected one of", "0 INTERNAL")  # messages that help nobody
_LONGEST_NAME = 255  # characters of a part of a path
_LONGEST = 120  # characters of a reason


@dataclass(frozen=True)
class HubName:
    """A model on the hub: its owner and name, a branch, tag or commit, and its folder in the repository.

    >>> str(HubName("org/name", "v1.0", "sub"))
    'org/name@v1.0:sub'
    """

    repository: str
    revision: str | None = None
    folder: str = ""

    def __str__(self) -> str:
        revision = f"@{self.revision}" if self.revision else ""
        return self.repository + revision + (f":{self.folder}" if self.folder else "")


def hub_name(text: str) -> HubName | None:
    """Return the model on the hub that a text names, or None if it names none.

    >>> str(hub_name("hf-hub:org/name"))
    'org/name'
    >>> hub_name("no model")
    """
    name = text.strip()
    scheme = next((scheme for scheme in _SCHEMES if name.startswith(scheme)), "")
    name = name.removeprefix(scheme).rstrip("/")
    if not scheme and (page := _page(name)) is not None:
        return page

    match = _NAME.fullmatch(name)
    if match is None or ".." in re.split("[/:@]", name):
        if scheme:
            raise CannotLoad(
                f"{text!r} names no model on the hub: write org/name, org/name@revision or org/name:folder"
            )
        return None
    return HubName(match["repository"], match["revision"], match["folder"] or "")


def open_clip_name(text: str) -> str | None:
    """Return ``ARCHITECTURE/TAG`` if a text names weights of OpenCLIP, with or without the prefix; None otherwise."""
    if text.startswith(OPEN_CLIP):
        return text.removeprefix(OPEN_CLIP)

    first, slash, tag = text.strip().partition("/")
    architecture = text.strip().replace("@336px", "-336").replace("/", "-")
    spec = find_spec("open_clip")  # its files, since to import it takes seconds
    folders = (spec and spec.submodule_search_locations) or []
    architectures = {path.stem for folder in folders for path in Path(folder, "model_configs").glob("*.json")}
    if architecture in architectures and not (first in architectures and slash):
        import open_clip

        tags = open_clip.list_pretrained_tags_by_model(architecture)
        openai = f"{OPEN_CLIP}{architecture}/openai for OpenAI's, or " if "openai" in tags else ""
        raise CannotLoad(
            f"{text!r} is an architecture, of which there are several weights: write {openai}"
            f"{OPEN_CLIP}{architecture}/TAG (tags: {', '.join(tags) or 'none'})"
        )
    return f"{first}/{tag}" if first in architectures and tag else None


def hint(text: str) -> str:
    """Return what to write instead of a text that names no model, or nothing.

    >>> hint("org/name/sub")
    " For the folder of a repository, write 'org/name:sub'."
    """
    parts = text.strip().split("/")
    if len(parts) > 2 and all(re.fullmatch(_PART, segment) for segment in parts):
        return f" For the folder of a repository, write '{parts[0]}/{parts[1]}:{'/'.join(parts[2:])}'."
    return ""


def is_address(source: object) -> bool:
    """Return whether a model is named by the address of a server, which is no page of the hub.

    >>> is_address("http://localhost:8000/v1"), is_address("org/name")
    (True, False)
    """
    if not isinstance(source, str) or not re.match("https?://", source.strip(), re.IGNORECASE):
        return False
    return urlsplit(source.strip()).netloc.lower() not in _hub_hosts()


def _hub_hosts() -> set[str]:
    """Return the hosts of the hub, with the ports that are not the default ones."""
    from huggingface_hub import constants

    # older versions have no list
    return {*getattr(constants, "HF_URL_HOSTS", ()), urlsplit(constants.ENDPOINT).netloc.lower()} - {""}


def _page(text: str) -> HubName | None:
    """Return the model of an address of the hub; None if the text is no address."""
    hosts = _hub_hosts()
    bare = text.partition("/")[0].lower() in hosts
    if "://" not in text and not bare:
        return None

    address = urlsplit(text if "://" in text else f"//{text}")
    if (address.netloc.lower() not in hosts) or address.scheme not in ("", "http", "https"):
        raise CannotLoad(f"{text!r} is not a page of the hub: write org/name for a model on it")

    parts = [unquote(segment) for segment in address.path.split("/") if segment]
    if parts[:1] == ["models"] and len(parts) > 2:
        del parts[0]
    if len(parts) < 2 or parts[0] in _OTHERS:
        raise CannotLoad(f"{text!r} is not the page of a model: write org/name")

    repository = "/".join(parts[:2])
    place = parts[2:3]
    rest = parts[3:]
    if not place or place[0] not in _PLACES or not rest:
        return hub_name(repository)

    count = 3 if rest[0] == "refs" else 1  # the revision refs/pr/1
    revision = "/".join(rest[:count])
    path = rest[count:]
    folder = path if place == ["tree"] else path[:-1]
    return hub_name(str(HubName(repository, None if revision == "main" else revision, "/".join(folder))))


EMBEDDING = ("pooling", "instruction", "image_prompt", "text_prompt", "positions")
"""What says how a vision-language model embeds a prompt."""


@dataclass(frozen=True)
class LoadRequest:
    """The options with which a model is loaded, and what loading adds to them."""

    dtype: torch.dtype = torch.float32
    resize: str | None = None
    image_size: int | None = None
    processor: Processor = None
    tokenizer: Tokenizer = None
    is_passed: bool = False  # whether the caller passed the processor or the tokenizer
    notes: tuple[str, ...] = ()  # for every result
    ignored: tuple[str, ...] = ()  # what a folder has and no result depends on
    embedding: JsonObject = field(default_factory=dict)  # values of ``EMBEDDING``
    facts: JsonObject = field(default_factory=dict)  # for records, besides the name and the weights
    folder: Path | None = None  # of a local or embedded model
    defaults: JsonObject = field(default_factory=dict)  # recommended values of options
    generation: Literal["greedy", "model"] = "greedy"  # how a generator writes
    labels: tuple[str, ...] = ()  # the names of the classes of a classifier, in place of its own
    after: nn.Module | None = None  # what follows the encoders in a folder of sentence-transformers

    @property
    def image_processor(self) -> Any:
        """The part of the processor that takes images."""
        return getattr(self.processor, "image_processor", self.processor)

    @property
    def text_tokenizer(self) -> Any:
        """The tokenizer, or that of the processor; None if there is none."""
        return self.tokenizer or getattr(self.processor, "tokenizer", None)


@dataclass(frozen=True)
class _Placement:
    """The options of loading that all models share."""

    device: str = "cpu"
    dtype: Annotated[str, OneOf(("float32", "float16", "bfloat16"))] = "float32"

    def __post_init__(self) -> None:
        complete(self)


@dataclass(frozen=True)
class GenerationOptions(_Placement):
    """The options of ``load_generator`` that are texts."""

    generation: Annotated[str, OneOf(("greedy", "model"))] = "greedy"
    processor: str | None = None


@dataclass(frozen=True)
class LoadOptions(_Placement):
    """The options of ``load_model`` that are texts or numbers."""

    resize: Annotated[str, OneOf(("model", "whole"))] | None = None
    image_size: ImageSize | None = None
    pooling: Annotated[str, OneOf(("last", "mean"))] | None = None
    instruction: str | None = None
    image_prompt: str | None = None
    text_prompt: str | None = None
    labels: str | None = None
    processor: str | None = None
    text_model: str | None = None


def check_unset(kind: str, **options: object) -> None:
    """Check that no option of loading is set for a model that is there already, which is neither moved nor changed."""
    plain = {"device": "cpu", "dtype": "float32", "generation": "greedy"}
    for name, value in options.items():
        if str(value).removeprefix("torch.") != str(plain.get(name)):
            raise BadOption(
                f"{name} cannot be set for {kind}, which is used as it is (got {value!r:.60}): leave it out, or set it "
                "where the model is loaded"
            )


def name_of_device(device: object) -> Any:
    """Return the name of a device; anything else than a device as it is, for its error."""
    return str(device) if isinstance(device, torch.device) else device


def name_of_dtype(dtype: object) -> Any:
    """Return the name of a dtype without its module; anything else than a name or a dtype as it is, for its error."""
    return str(dtype).removeprefix("torch.") if isinstance(dtype, str | torch.dtype) else dtype


def check_processor_arguments(processor: object, tokenizer: object = None) -> None:
    """Check that what a caller passes as a processor and a tokenizer can be called."""
    for name, value in (("processor", processor), ("tokenizer", tokenizer)):
        if value is not None and (not callable(value) or isinstance(value, type)):
            other = ", or the folder or the name of a model" if name == "processor" else ""
            raise BadOption(
                f"{name} must be a {name}{other} (got {value!r:.60}): pass Auto{name.title()}.from_pretrained(...), or "
                "leave it out"
            )


def read_labels(labels: object) -> tuple[str, ...]:
    """Return the names of classes of a list, or of a text file with one a line."""
    if labels is None:
        return ()
    if isinstance(labels, str | Path):
        path = Path(labels)
        if not path.is_file():
            raise BadOption(
                f"labels must be a list of names of classes, or a text file with one a line (there is no file "
                f"{str(labels)!r:.200})"
            )
        return tuple(line.strip() for line in read_text(path).splitlines() if line.strip())

    if not isinstance(labels, Sequence) or not labels or not all(isinstance(name, str) and name for name in labels):
        raise BadOption(
            f"labels must be a list of names of classes, or a text file with one a line (got {labels!r:.100})"
        )
    return tuple(unicode_text("a label", name) for name in labels)


def check_loading(loading: Mapping[str, object], options: type, *others: str) -> None:
    """Check the names of options of loading."""
    names = (*field_types(options), *others)
    for name in loading:
        if name not in names:
            raise UnknownName("loading options", name, names)


def check_source(source: object) -> None:
    """Check what is passed as a model."""
    if isinstance(source, str | Path):
        if any(len(component) > _LONGEST_NAME for component in Path(source).parts):
            raise BadOption(
                f"the name of a model or a folder has at most {_LONGEST_NAME} characters (got {len(str(source))}, "
                f"beginning with {str(source)[:40]!r})"
            )
        return

    models = source if isinstance(source, tuple) and len(source) == 2 else (source,)
    if all(isinstance(model, nn.Module) for model in models):
        return

    expected = "a model must be a name, a folder, a module of PyTorch, or a pair of an image model and a text model"
    if isinstance(source, type):
        raise BadOption(f"{expected} (got the class {source.__name__}: create an instance)")

    name = type(source).__name__
    if hasattr(source, "image_processor") or hasattr(source, "tokenizer") or re.search("Tokenizer|Processor", name):
        raise BadOption(f"{expected} (got a {name}: pass the model first, and this as processor=...)")
    if isinstance(source, dict):
        raise BadOption(f"{expected} (got a {name}, as a state dict is: load it into its model)")
    raise BadOption(f"{expected} (got a {name})")


def check_device(device: str) -> None:
    """Check that PyTorch can compute on a device."""
    reason = ""
    try:
        with without_warnings():  # about names of devices that PyTorch has abandoned
            named = torch.device(device)
            torch.empty(0, device=named)
            if named.type != "meta" and (named.type != "cpu" or not named.index):  # numbers, and a single processor
                return
    except Exception as error:  # of many types
        first = str(error).strip().partition("\n")[0].partition(". ")[0].rstrip(".")
        reason = "" if first.startswith(_PYTORCH_ONLY) or len(first) > _LONGEST else f" ({first})"

    raise BadOption(f"device {device!r} is not available{reason}: use {', '.join(_available())}")


def _available() -> list[str]:
    """Return the devices that PyTorch can use on this machine."""
    names = ["cpu"]
    names += [f"cuda:{number}" for number in range(torch.cuda.device_count())] if torch.cuda.is_available() else []
    names += ["mps"] if torch.backends.mps.is_available() else []
    return names + (["xpu"] if torch.xpu.is_available() else [])
