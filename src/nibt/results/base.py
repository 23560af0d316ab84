"""The bases of results and of those about one image: what a result declares as typed fields is its JSON form too."""

import json
import math
from abc import abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from hashlib import sha256
from itertools import chain
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal, TypeAlias, TypeVar

import torch
from pydantic import (
    AfterValidator,
    Field,
    GetCoreSchemaHandler,
    GetJsonSchemaHandler,
    GetPydanticSchema,
    PlainSerializer,
    model_validator,
)
from pydantic.fields import ComputedFieldInfo
from torch import Tensor

from nibt.data.images import MOST_PIXELS, ImageInput, Region, image_at
from nibt.errors import BadInput, reason
from nibt.io import load_json, read_path
from nibt.records import JsonObject, place_of, plain_data, read_record
from nibt.registry import format_of
from nibt.results.notes import WithNotes
from nibt.results.records import MethodRecord, Size
from nibt.types import ByValue, ModelRecord

_INPUTS = ("kind", "source", "image_hash", "caption", "method", "model")  # the keys that describe the request
_ResultType = TypeVar("_ResultType", bound="Result")


_ROUNDING = 1e-5  # of a share, which is a sum


@dataclass(frozen=True)
class Array:
    """Marks a field with a tensor, which is a number or nested lists of numbers in the JSON form.

    Tensors are read as float32 or bool, on the processor, whatever the default dtype and device are.
    """

    axes: int = 0
    entries: Literal["number", "integer", "boolean"] = "number"
    is_share: bool = False
    """Whether the numbers are between 0 and 1."""

    def __get_pydantic_core_schema__(self, source: object, handler: GetCoreSchemaHandler) -> Any:
        nested: Any = {"number": float, "integer": int, "boolean": bool}[self.entries]
        for _ in range(self.axes):
            nested = Annotated[list[nested], Field(min_length=min(self.axes - 1, 1))]  # a table has an entry
        return handler.generate_schema(Annotated[nested, AfterValidator(self._tensor), PlainSerializer(self._lists)])

    def __get_pydantic_json_schema__(self, schema: object, handler: GetJsonSchemaHandler) -> JsonObject:
        node: JsonObject = {"type": self.entries, **({"format": "float"} if self.entries == "number" else {})}
        for _ in range(self.axes):
            node = {"type": "array", "items": node}
        return node

    def _tensor(self, numbers: Any) -> Tensor:
        rows = [numbers]
        for _ in range(1, self.axes):
            rows = [*chain.from_iterable(rows)]
            least = min(map(len, rows))
            most = max(map(len, rows))
            if least < most:
                raise ValueError(f"must have lists of one length (got {least} and {most} entries)")

        tensor = torch.tensor(numbers, dtype=torch.bool if self.entries == "boolean" else torch.float32, device="cpu")
        if not tensor.isfinite().all():  # JSON has larger numbers than float32
            raise ValueError("must have numbers within float32")
        if self.is_share and not (tensor.ge(0) & tensor.le(1 + _ROUNDING)).all():
            raise ValueError(f"must be between 0 and 1 (got {numbers})")
        return tensor

    def _lists(self, tensor: Tensor) -> Any:
        return (tensor.long() if self.entries == "integer" else tensor).tolist()


@lru_cache
def _computed(record_type: type) -> frozenset[str]:
    """Return the names of what a record marks with ``computed_field``."""
    attributes = {name: value for base in record_type.__mro__ for name, value in vars(base).items()}
    marks = {name: getattr(value, "decorator_info", None) for name, value in attributes.items()}
    return frozenset(name for name, mark in marks.items() if isinstance(mark, ComputedFieldInfo))


class Serializable(ByValue):
    """Base class of dataclasses with a JSON form: their fields, and what they mark with ``computed_field``."""

    __pydantic_config__: ClassVar = {"extra": "forbid", "allow_inf_nan": False}

    @model_validator(mode="before")
    @classmethod
    def _without_computed(cls, data: object) -> object:
        """Leave out what is computed from the fields."""
        if not isinstance(data, Mapping):
            return data
        return {name: value for name, value in data.items() if name not in _computed(cls)}


_Numbers: TypeAlias = Tensor | float | Serializable | Mapping | tuple
"""A number, or what has some."""


def _not_finite(value: _Numbers, *place: str | int) -> Iterator[tuple[str | int, ...]]:
    """Yield the places of numbers that are NaN or infinite, in a result whose arrays may have been changed in place."""
    if isinstance(value, float | int):
        if not math.isfinite(value):
            yield place
    elif isinstance(value, Tensor):
        if not value.isfinite().all():
            yield place
    else:
        inside = vars(value) if isinstance(value, Serializable) else value
        for key, item in inside.items() if isinstance(inside, Mapping) else enumerate(inside):
            if isinstance(item, _Numbers):  # texts have no numbers
                yield from _not_finite(item, *place, key)


class Result(Serializable):
    """Base class of what nibt computes and saves: explanations, regions, audits and ROAR results.

    Attributes:
        kind: The kind of result, as the JSON form states it.
        schema: The version of the JSON form.
    """

    kind: ClassVar[str]
    schema: ClassVar[int]

    def to_json(self) -> JsonObject:
        """Return plain data, the form of the JSON files."""
        if place := next(_not_finite(self), ()):
            raise BadInput(
                f"the {self.kind} was changed after it was computed, and has NaN or infinite numbers in "
                f"{place_of(place)}: compute it again"
            )
        return {"schema": self.schema, "kind": self.kind, **plain_data(self)}

    @abstractmethod
    def _lines(self) -> Iterator[str]:
        """Yield the lines that an interpreter shows, without warnings."""

    def __repr__(self) -> str:
        warnings = (f"  warning: {warning}" for warning in getattr(self, "warnings", ()))
        return "\n".join([*self._lines(), *warnings])

    @classmethod
    def from_json(cls: type[_ResultType], data: Mapping[str, object]) -> _ResultType:
        """Build a result from the plain data that ``to_json`` returns.

        Raises:
            BadInput: The data is of another kind or schema, or a value is wrong.
        """
        if not isinstance(data, Mapping):
            raise BadInput(f"expected the plain data of {cls.kind}, got {type(data).__name__}: load reads a file")

        stated = data.get("kind"), data.get("schema")
        if stated != (cls.kind, cls.schema):
            if stated[0] == cls.kind:
                remedy = "read it with the version of nibt that wrote it"
            else:
                remedy = f"give {cls.kind}, or read it with the class of its kind"

            raise BadInput(
                f"expected schema {cls.schema} of {cls.kind}, got schema {stated[1]!r} of {stated[0]}: {remedy}"
            )

        fields = {name: value for name, value in data.items() if name not in ("kind", "schema", "signature")}
        return read_record(cls, fields, cls.kind)

    @classmethod
    def load(cls: type[_ResultType], path: str | Path) -> _ResultType:
        """Read a JSON file with one result.

        Images are loaded too, if they are still at their source and unchanged.

        Raises:
            BadInput: The file is missing, or it has no result of this kind and schema.
        """
        file = read_path("path", path)
        try:
            data = load_json(file)
            if isinstance(data, list):
                raise ValueError(f"it has a list of {len(data)} results: read each with from_json")
            if not isinstance(data, dict):
                raise ValueError(f"expected an object, got {type(data).__name__}")
            return cls.from_json(data)
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise BadInput(
                f"{str(path)!r} is not a file of kind {cls.kind!r} that nibt wrote ({reason(error)})"
            ) from error

    def request(self) -> JsonObject:
        """Return the request as plain data: the inputs, the method, the model and the target."""
        data = self.to_json()
        sides = {name: _inputs(side) for name, side in data.get("sides", {}).items()}
        target = data.get("target", {})
        labels = sorted(label["label"] for label in data.get("ranking", ()))
        target = {"target": target.get("name"), "options": target.get("options"), "labels": labels}
        return {**_inputs(data), **sides, **target}

    def save(self, path: str | Path, overwrite: bool = False, **drawing: object) -> None:
        """Write a file, completely or not at all; the ending of its name chooses the format, as in ``nibt.save``.

        Raises:
            BadOption: No format has that ending, or the format cannot hold this result.
            WouldOverwrite: The path has a file that nibt did not write, and ``overwrite`` is false.
            CannotWrite: The folder is missing or not writable, or the disk is full.
        """
        format_of(path, self.kind).save([self], Path(path), overwrite, **drawing)


@dataclass(frozen=True)
class Beside:
    """Base class of a result with what is shown beside it, such as ``Panel``.

    Attributes:
        answer: The result.
    """

    answer: Result


class ResultWithMaps(WithNotes, Result):
    """Base class of results with maps: of an image, of the words of a caption, or of the words of an answer.

    Attributes:
        method: The method with its resolved options.
        model: The model and its hashes.
        versions: The versions of packages.
    """

    method: MethodRecord
    model: ModelRecord
    versions: Mapping[str, str]


def require_result(value: object, caller: str, *classes: type[_ResultType]) -> _ResultType:
    """Return what a function was given, which must be a result of a class that it takes, with finite numbers."""
    if not isinstance(value, classes):
        names = " or ".join(result_class.__name__ for result_class in classes)
        remedy = ""
        if isinstance(value, str | Path):
            remedy = f": read a file with {classes[0].__name__}.load(path)"
        elif isinstance(value, Result):
            remedy = ": its method save writes it into a file"
        raise BadInput(f"{caller} takes results of class {names} (got {type(value).__name__}){remedy}")
    value.to_json()  # its arrays may have been changed in place
    return value


def _inputs(data: Mapping[str, object]) -> JsonObject:
    return {name: data[name] for name in _INPUTS if name in data}


def request_of(results: Sequence[Result]) -> JsonObject:
    """Return the request of a file: that of its only result, or the hashes of the requests of all results."""
    requests = [result.request() for result in results]
    if len(requests) == 1:
        return requests[0]
    texts = [json.dumps(request, sort_keys=True) for request in requests]
    return {"pairs": [sha256(text.encode()).hexdigest()[:16] for text in texts]}


def as_text(data: object, encoding: str = "utf-8") -> str:
    """Return data as indented JSON; in ASCII if the encoding lacks a part, as of names of files that are no text."""
    text = json.dumps(data, ensure_ascii=False, allow_nan=False, indent=1)
    try:
        text.encode(encoding)
    except UnicodeEncodeError:
        text = json.dumps(data, allow_nan=False, indent=1)
    return text + "\n"


ImageItself: TypeAlias = Annotated[
    ImageInput | None, GetPydanticSchema(lambda _, handler: handler(Any)), Field(exclude=True)  # not in the JSON form
]


_ImageRecord = TypeVar("_ImageRecord", bound="OfImage")


@dataclass(frozen=True, eq=False, repr=False, kw_only=True)
class OfImage(Serializable):
    """Base class of records of an image.

    Attributes:
        source: The path or the URL of the image, or a description of it.
        image_hash: 16 hexadecimal digits: a hash of the image file, or of the size and pixels.
        size: Width and height of the upright image, in pixels.
        region: Left, top, width and height of the part of the upright image that the map covers, in pixels.
        input: The image itself. It is None if the record was loaded from a file and the image is no longer at
            ``source``.
    """

    source: str = ""
    image_hash: str = ""
    size: Size
    region: Region
    input: ImageItself = field(default=None, repr=False, compare=False)

    @model_validator(mode="before")
    @classmethod
    def _with_image(cls, data: object) -> object:
        """Add the image itself to plain data, if it is still at its source and unchanged."""
        if not isinstance(data, Mapping) or not isinstance(data.get("source"), str):
            return data
        return {**data, "input": image_at(data["source"], str(data.get("image_hash", "")))}

    @model_validator(mode="after")
    def _region_of_image(self: _ImageRecord) -> _ImageRecord:
        """Check that the region of plain data is a part of the image, and no larger than a map can be."""
        left, top, width, height = self.region
        if min(width, height) <= 0 or width * height > 4 * MOST_PIXELS:
            raise ValueError(
                f"region must have a width and a height above 0, and at most {4 * MOST_PIXELS:,} pixels "
                f"(got {width:g} x {height:g})"
            )
        if left >= self.size[0] or top >= self.size[1] or left + width <= 0 or top + height <= 0:
            raise ValueError(f"region must overlap the image, {self.size} (got {tuple(self.region)})")
        return self


@dataclass(frozen=True, eq=False, repr=False, kw_only=True)
class ResultOfImage(OfImage, ResultWithMaps):
    """Base class of results about one image, with the attributes of ``OfImage``.

    Attributes:
        model: The model and its hashes.
        versions: The versions of packages.
        warnings: Warnings for the reader.
        codes: The code of each warning.
    """

    model: ModelRecord
    versions: Mapping[str, str]
    warnings: tuple[str, ...] = ()
    codes: tuple[str, ...] = ()
