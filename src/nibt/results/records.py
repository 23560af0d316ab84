"""Records in the JSON form of results: methods, targets, machines, measurements; and their provenance."""

from base64 import b64decode
from dataclasses import dataclass, field
from typing import Annotated, NotRequired

from pydantic import AfterValidator, ConfigDict, Field
from typing_extensions import TypedDict

from nibt.data.images import MOST_PIXELS, decode_image
from nibt.records import JsonObject, is_finite
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
    """Check that what a target compares with are texts: captions, names of images, or the tokens of an answer.

    The box of a detector has four numbers.
    """
    box = options.get("box", [0.0] * 4)
    if not isinstance(box, list | tuple) or len(box) != 4 or not all(is_finite(side) for side in box):
        raise ValueError(f"must have four finite numbers as box (got {box!r:.60})")

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
