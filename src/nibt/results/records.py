"""Records in the JSON form of results: methods, targets, machines."""

from typing import Annotated, NotRequired

from pydantic import AfterValidator, ConfigDict, Field
from typing_extensions import TypedDict

from nibt.data.images import MOST_PIXELS
from nibt.records import JsonObject
from nibt.types import ModelRecord

SCHEMA = 4
"""The version of the JSON form of explanations and regions."""


def few_pixels(size: tuple[int, int]) -> tuple[int, int]:
    """Return the size of an image, which has no more pixels than an image that can be read."""
    if size[0] * size[1] > MOST_PIXELS:
        raise ValueError(f"must have at most {MOST_PIXELS:,} pixels (got {size[0]:,} x {size[1]:,})")
    return size


Size = Annotated[tuple[Annotated[int, Field(gt=0)], Annotated[int, Field(gt=0)]], AfterValidator(few_pixels)]
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
    auto: NotRequired[Annotated[JsonObject, Field(description='How layers were chosen for layer="auto".')]]
    files: NotRequired[
        Annotated[dict[str, str], Field(description="Digests of the files that options name: mean states, segments.")]
    ]


class TargetRecord(TypedDict):
    """A target with its options."""

    name: str
    options: JsonObject


class SideTargetRecord(TypedDict):
    """The target that was explained on a side, and its value."""

    name: str
    value: float


class ExplainedTargetRecord(TargetRecord):
    """A target with its options, and its value on each side."""

    __pydantic_config__ = _FORBID  # pyright: ignore[reportGeneralTypeIssues]

    value: Annotated[float, Field(description="The value on the first side.")]
    image: NotRequired[SideTargetRecord]
    text: NotRequired[SideTargetRecord]
    first: NotRequired[SideTargetRecord]
    second: NotRequired[SideTargetRecord]


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
