"""The options with which a model is loaded."""

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, Literal, TypeAlias

import torch
from PIL import Image
from torch import nn

from nibt.errors import BadOption, UnknownName
from nibt.io import read_text, unicode_text
from nibt.options import ImageSize, OneOf, complete, field_types
from nibt.preprocessing.captions import Tokenizer
from nibt.preprocessing.images import Processor
from nibt.records import JsonObject
from nibt.torch_modes import without_warnings

EmbedImages: TypeAlias = Callable[[list[Image.Image]], object]
EmbedTexts: TypeAlias = Callable[[list[str]], object]
"""Functions of a user, whose results are checked."""
_PYTORCH_ONLY = ("Could not run", "Expected one of", "0 INTERNAL")  # messages that help nobody
_LONGEST_NAME = 255  # characters of a part of a path
_LONGEST = 120  # characters of a reason
EMBEDDING = ("pooling", "instruction", "image_prompt", "text_prompt", "positions")
"""What says how a vision-language model embeds a prompt."""


@dataclass(frozen=True)
class ScoreChoice:
    """Which score of a model is explained: of which kind, and of which box or point of a mask.

    Attributes:
        kind: ``contrastive``, ``matching``, ``box`` or ``mask``.
        number: The number of the box, from 0 for the best one.
        point: A point of the image, in pixels from its left and its top.
    """

    kind: str
    number: int = 0
    point: tuple[float, float] | None = None

    def __str__(self) -> str:
        place = ",".join(f"{value:g}" for value in self.point) if self.point else str(self.number or "")
        return f"{self.kind}:{place}" if place else self.kind


_SCORES = ("contrastive", "matching", "box", "mask")


def read_score(value: object) -> ScoreChoice | None:
    """Return the score that a text names; None without one.

    >>> str(read_score("box:120,80")), read_score("box:2").number
    ('box:120,80', 2)
    """
    if value is None:
        return None

    kind, colon, place = value.partition(":") if isinstance(value, str) else ("", "", "")
    if kind in _SCORES and not colon:
        return ScoreChoice(kind)
    if kind == "box" and re.fullmatch(r"\d{1,4}", place):
        return ScoreChoice(kind, int(place))

    numbers = place.split(",")
    is_point = len(numbers) == 2 and all(re.fullmatch(r"\d{1,7}(\.\d+)?", text) for text in numbers)
    if kind in ("box", "mask") and is_point:
        return ScoreChoice(kind, point=(float(numbers[0]), float(numbers[1])))

    raise BadOption(
        "score must be contrastive, matching, box, box:NUMBER (0 is the best box), box:X,Y, mask, or mask:X,Y with a "
        f"point in pixels from the left and the top of the image (got {value!r:.60})"
    )


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
    variant: str | None = None  # which files of its weights, such as fp16; None are those without a variant
    labels: tuple[str, ...] = ()  # the names of the classes of a classifier, in place of its own
    score: ScoreChoice | None = None  # which score of a model with several is explained; None is its usual one
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
    variant: str | None = None


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
    score: str | None = None
    processor: str | None = None
    text_model: str | None = None
    variant: str | None = None


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


def check_variant(variant: object) -> None:
    """Check that the variant of a model's weights can be a part of the names of files."""
    if variant is not None and not (isinstance(variant, str) and re.fullmatch(r"[\w-]{1,40}", variant)):
        raise BadOption(
            f"variant must be the part of the names of the files of weights that names them, such as fp16 in "
            f"model.fp16.safetensors (got {variant!r:.60})"
        )


def check_no_variant(name: str, variant: str | None, library: str) -> None:
    """Check that no variant is set for a model whose weights another library reads."""
    if variant is not None:
        raise BadOption(
            f"variant is for weights that Transformers reads (got {variant!r} for the model {name!r}, which {library} "
            "reads): leave variant out"
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
