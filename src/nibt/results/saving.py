"""Saving and loading of results as JSON files."""

import json
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from hashlib import sha256
from importlib import import_module
from pathlib import Path
from typing import Any, ClassVar, TypeVar

from nibt.errors import BadInput
from nibt.io import load_json
from nibt.values import ByValue

_REQUEST = ("kind", "source", "image_hash", "caption", "method", "model")  # the keys that describe the request
_SIDES = ("image", "text", "first", "second")
_Result = TypeVar("_Result", bound="JsonSerializable")


class JsonSerializable(ByValue, ABC):
    """A result with a JSON form: an explanation, a comparison, a word-region table, an audit, or a ROAR result.

    Attributes:
        kind: The kind of result, as the JSON form states it.

    """

    kind: ClassVar[str]

    @abstractmethod
    def to_json(self) -> dict[str, Any]:
        """Return plain data, the form of the JSON files."""

    @classmethod
    @abstractmethod
    def from_json(cls: type[_Result], data: Mapping[str, Any]) -> _Result:
        """Build a result from the plain data that ``to_json`` returns.

        Raises:
            BadInput: The data is of another kind or schema, or a value is wrong.

        """

    @classmethod
    def load(cls: type[_Result], path: str | Path) -> _Result:
        """Read a JSON file with one result.

        Images are loaded too, if they are still at their source and unchanged.

        Raises:
            BadInput: The file is missing, or it has no result of this kind and schema.

        """
        try:
            data = load_json(Path(path))
            if isinstance(data, list):
                raise ValueError(f"it has a list of {len(data)} results: read each with from_json")
            if not isinstance(data, dict):
                raise ValueError(f"expected an object, got {type(data).__name__}")
            return cls.from_json(data)
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise BadInput(f"{str(path)!r} is not a file of kind {cls.kind!r} that nibt wrote ({error})") from error

    def request(self) -> dict[str, Any]:
        """Return the request as plain data: the inputs, the method, the model and the target."""
        data = self.to_json()
        request = {name: data[name] for name in _REQUEST if name in data}
        for side in _SIDES:
            if side in data:
                request[side] = {name: data[side][name] for name in _REQUEST if name in data[side]}
        score = data.get("score", {})
        labels = sorted(label["label"] for label in data.get("ranking", ()))
        return request | {"target": score.get("target"), "options": score.get("options"), "labels": labels}

    def save(self, path: str | Path, overwrite: bool = False, **drawing: Any) -> None:
        """Write a file, completely or not at all; the ending of its name chooses the format, as in ``nibt.save``.

        Raises:
            BadOption: No format has that ending, or the format cannot hold this result.
            WouldOverwrite: The path has a file that nibt did not write, and ``overwrite`` is false.
            CannotWrite: The folder is missing or not writable, or the disk is full.

        """
        import_module("nibt.formats.base").save(self, path, overwrite=overwrite, **drawing)  # formats know results


def request_of(answers: Sequence[JsonSerializable]) -> dict[str, Any]:
    """Return the request of a file: that of its only result, or the hashes of the requests of all results."""
    requests = [answer.request() for answer in answers]
    if len(requests) == 1:
        return requests[0]
    return {"pairs": [sha256(json.dumps(one, sort_keys=True).encode()).hexdigest()[:16] for one in requests]}


def as_bytes(data: Any) -> bytes:
    """Return data as indented JSON in UTF-8. A name that is no text, as those of files may be, becomes an escape."""
    try:
        return as_text(data).encode()
    except UnicodeEncodeError:
        return as_text(data, ascii_only=True).encode()


def as_text(data: Any, ascii_only: bool = False) -> str:
    """Return data as indented JSON, whose other characters are escapes if it is to be ASCII only."""
    return json.dumps(data, ensure_ascii=ascii_only, allow_nan=False, indent=1) + "\n"


def check_schema(data: Mapping[str, Any], kind: str, schema: int) -> dict[str, Any]:
    """Return the data without the kind, the schema and the signature."""
    stated = data.get("kind"), data.get("schema")
    if stated != (kind, schema):
        raise BadInput(f"expected schema {schema} of {kind}, got schema {stated[1]} of {stated[0]}")
    return {name: value for name, value in data.items() if name not in ("kind", "schema", "signature")}
