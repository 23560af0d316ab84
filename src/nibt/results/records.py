"""Records in the JSON form of results: methods, targets, machines, measurements; and their provenance."""

import json
import os
import platform
from base64 import b64decode
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Annotated, NotRequired

import torch
from pydantic import AfterValidator, ConfigDict, Field
from typing_extensions import TypedDict

from nibt.data.images import MOST_PIXELS, decode_image
from nibt.errors import OtherRequest
from nibt.io import read_text
from nibt.records import JsonObject
from nibt.results.outputs import read_signature
from nibt.types import MeasuredSide, ModelRecord

SCHEMA = 4
"""The version of the JSON form of explanations and regions."""


def few_pixels(size: tuple[int, int]) -> tuple[int, int]:
    """Return the size of an image, which has no more pixels than an image that can be read."""
    if size[0] * size[1] > MOST_PIXELS:
        raise ValueError(f"must have at most {MOST_PIXELS:,} pixels (got {size[0]:,} x {size[1]:,})")
    return size


def image_as_text(text: str) -> str:
    """Return the data URI of an image that can be read."""
    head, _, data = text.partition(",")
    if not head.startswith("data:image/"):
        raise ValueError(f"must be an image as a data URI (got {text!r:.60})")
    decode_image(b64decode(data, validate=True), "its data")
    return text


Size = Annotated[tuple[Annotated[int, Field(gt=0)], Annotated[int, Field(gt=0)]], AfterValidator(few_pixels)]
DataURI = Annotated[str, AfterValidator(image_as_text)]
"""An image as a data URI."""
Probability = Annotated[float, Field(ge=0, le=1)]

_FORBID = ConfigDict(extra="forbid")


class MethodRecord(TypedDict):
    """A method with its resolved options on each side."""

    __pydantic_config__ = _FORBID  # pyright: ignore[reportGeneralTypeIssues]

    name: str
    variant: str
    seed: int | None
    signed: bool
    image: NotRequired[Annotated[JsonObject, Field(description="The options of the image side.")]]
    text: NotRequired[Annotated[JsonObject, Field(description="The options of the text side.")]]
    steps: NotRequired[
        Annotated[dict[str, int], Field(description="Word-region tables only: the number of steps on each side.")]
    ]
    along_path: NotRequired[bool]
    files: NotRequired[
        Annotated[dict[str, str], Field(description="Digests of the files that options name: mean states, segments.")]
    ]


def _texts(options: JsonObject) -> JsonObject:
    """Check that what a target compares with are texts: captions, names of images, or the tokens of an answer."""
    for name in ("against", "against_images", "tokens"):
        values = options.get(name)
        is_list = isinstance(values, list | tuple) and all(isinstance(value, str) for value in values)
        if not (values is None or isinstance(values, str) or is_list):
            raise ValueError(f"must have texts as {name} (got {values!r:.60})")
    return options


class TargetRecord(TypedDict):
    """A target with its options."""

    name: str
    options: Annotated[JsonObject, AfterValidator(_texts)]


class SideTargetRecord(TypedDict):
    """The target that was explained on a side, and its value."""

    name: str
    value: Annotated[float, Field(allow_inf_nan=False)]


class ExplainedTargetRecord(TargetRecord):
    """A target with its options, and its value on each side."""

    __pydantic_config__ = _FORBID  # pyright: ignore[reportGeneralTypeIssues]

    value: Annotated[float, Field(description="The value on the first side that has it.", allow_inf_nan=False)]
    image: NotRequired[SideTargetRecord]
    text: NotRequired[SideTargetRecord]
    first: NotRequired[SideTargetRecord]
    second: NotRequired[SideTargetRecord]
    against: NotRequired[SideTargetRecord]


class RequestRecord(TypedDict):
    """The method and the target of a request."""

    method: MethodRecord
    target: TargetRecord


class ProvenanceRecord(TypedDict):
    """The model and the versions of packages."""

    model: ModelRecord
    versions: dict[str, str]


class MachineRecord(TypedDict):
    """The machine, without its host name."""

    system: str
    architecture: str
    processor: str
    processors: int | None
    threads: int
    python: str
    accelerator: str | None


class SessionRecord(TypedDict):
    """The date, the package versions and the machine of a computation."""

    began: Annotated[str, Field(description="ISO 8601, UTC.")]
    versions: dict[str, str | None]
    machine: MachineRecord


@dataclass(frozen=True)
class Measurement:
    """The value of a metric for one side of a pair, or for its regions.

    Attributes:
        item: The position of the pair in the call, from 0.
        side: The side whose map was measured, or ``regions``.
        metric: The name of the metric.
        value: The value; NaN if the metric is not defined for this pair.
        curve: The curve whose area is the value, or what the number of a data set needs of the pair, such as counts;
            empty for other metrics.
        label: The name of the metric, with the options that distinguish it from others of the same name.
        seconds: The time to explain this side, or to compute the regions, without the metric.
    """

    item: int
    side: MeasuredSide
    metric: str
    value: float
    curve: tuple[float, ...] = ()
    label: str = ""
    seconds: float = field(default=float("nan"), compare=False)


_PACKAGES = (
    "nibt",
    "torch",
    "torchvision",
    "transformers",
    "open_clip_torch",
    "timm",
    "pillow",
    "numpy",
    "scipy",
    "pyarrow",
)
_NAMES = ("model.id", "model.revision")
"""What two equal models may have different."""


def session_info() -> SessionRecord:
    """Return the date, the package versions and the machine, without names of users, hosts or folders."""
    try:
        lines = read_text(Path("/proc/cpuinfo")).splitlines()
        processor = next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), "")
    except OSError:
        processor = platform.processor()

    device = torch.accelerator.current_accelerator() if torch.accelerator.is_available() else None
    name = None if device is None else getattr(getattr(torch, device.type), "get_device_name", None)
    accelerator = device and (device.type if name is None else name())  # its name, or its type if torch knows no name
    return {
        "began": datetime.now(UTC).isoformat(timespec="seconds"),
        "versions": {name: _version(name) for name in _PACKAGES},
        "machine": {
            "system": platform.system(),
            "architecture": platform.machine(),
            "processor": processor,
            "processors": os.cpu_count(),
            "threads": torch.get_num_threads(),
            "python": platform.python_version(),
            "accelerator": accelerator,
        },
    }


def require_same(where: Path, stored: Mapping[str, object], request: Mapping[str, object], remedy: str) -> None:
    """Check that stored results answer the same request.

    The name and the commit of a model are ignored: models are equal if their weights and preprocessing are equal.
    """
    old = _flat(stored)
    new = _flat(json.loads(json.dumps(request, default=str)))
    differing = [
        key for key in dict.fromkeys([*old, *new]) if old.get(key) != new.get(key) and not key.endswith(_NAMES)
    ]
    if differing:
        lines = "".join(f"\n  {key}: {_short(old.get(key))} (now {_short(new.get(key))})" for key in differing)
        raise OtherRequest(f"{where} has the results of another request:{lines}\n{remedy}")


def require_same_file(path: Path, request: Mapping[str, object]) -> None:
    """Check that a file may be replaced: it answers the same request, or nibt did not write it.

    Only the keys of ``request`` are compared.
    """
    signature = read_signature(path)
    if signature is not None:
        stored = {name: signature.get(name) for name in request}
        require_same(
            path, stored, request, "Choose another name, or replace the file: --overwrite (in Python overwrite=True)"
        )


def _flat(data: object, name: str = "") -> JsonObject:
    """Flatten nested plain data to dotted names; a list is one value unless it is a list of records."""
    if isinstance(data, Mapping) and data:
        flattened = [_flat(value, f"{name}.{key}" if name else str(key)) for key, value in data.items()]
    elif isinstance(data, list) and data and all(isinstance(record, Mapping) for record in data):
        flattened = [_flat(record, f"{name}[{place}]") for place, record in enumerate(data)]
    else:
        return {name: data}
    return {key: value for flat in flattened for key, value in flat.items()}


def _short(value: object) -> str:
    text = "nothing" if value is None else str(value)
    return text if len(text) <= 100 else text[:100] + " ..."


def _version(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None
