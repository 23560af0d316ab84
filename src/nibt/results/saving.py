"""Results as JSON files: what they have in common, and how they are written and read."""

import json
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from hashlib import sha256
from pathlib import Path
from typing import Any, TypeVar

from nibt.errors import BadInput
from nibt.outputs import unsigned, write_bytes
from nibt.values import ByValue

_REQUEST = ("kind", "source", "image_hash", "caption", "method", "model")  # the keys that describe the request
_SIDES = ("image", "text", "first", "second")
_Read = TypeVar("_Read")


class JsonSerializable(ByValue, ABC):
    """What has a JSON form: an explanation, a comparison, a word-region table, or an audit."""

    @abstractmethod
    def to_json(self) -> dict[str, Any]:
        """Plain data, the form of the JSON files."""

    def request(self) -> dict[str, Any]:
        """What was asked, as plain data: the inputs, the method, the model and the target, without what came of it."""
        data = self.to_json()
        request = {name: data[name] for name in _REQUEST if name in data}
        for side in _SIDES:
            if side in data:
                request[side] = {name: data[side][name] for name in _REQUEST if name in data[side]}
        score = data.get("score", {})
        labels = sorted(label["label"] for label in data.get("ranking", ()))
        return request | {"target": score.get("target"), "options": score.get("options"), "labels": labels}

    def save(self, path: str | Path, overwrite: bool = False) -> None:
        """Write the JSON file, whole or not at all.

        Raises:
            WouldOverwrite: A file is there that nibt did not write, and ``overwrite`` is not given.
            CannotWrite: The folder is missing or closed, or the disk is full.

        """
        save([self], path, overwrite)


def save(answers: Sequence[JsonSerializable], path: str | Path, overwrite: bool = False) -> None:
    """Write one JSON object for one pair, a list for several.

    Raises:
        WouldOverwrite: A file is there that nibt did not write, and ``overwrite`` is not given.
        CannotWrite: The folder is missing or closed, or the disk is full.

    """
    data = [answer.to_json() for answer in answers]
    data[0] = {"signature": unsigned(request_of(answers)), **data[0]}
    write_bytes(Path(path), as_text(data[0] if len(data) == 1 else data).encode(), overwrite)


def request_of(answers: Sequence[JsonSerializable]) -> dict[str, Any]:
    """What was asked for a file of these results: that of the only one, or the digests of all."""
    requests = [answer.request() for answer in answers]
    if len(requests) == 1:
        return requests[0]
    return {"pairs": [sha256(json.dumps(one, sort_keys=True).encode()).hexdigest()[:16] for one in requests]}


def as_text(data: Any) -> str:
    """JSON that a person can read, without NaN."""
    return json.dumps(data, ensure_ascii=False, allow_nan=False, indent=1) + "\n"


def load(path: str | Path, read: Callable[[Any], _Read], what: str) -> _Read:
    """Read the JSON object of one pair.

    Raises:
        BadInput: The file is missing, or ``read`` does not find in it ``what`` it ought to be.

    """
    try:
        data = json.loads(Path(path).read_text(encoding="utf-8"))
        if not isinstance(data, dict):
            raise ValueError(f"expected an object, got {type(data).__name__}")
        return read(data)
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise BadInput(f"{str(path)!r} is no {what} that nibt wrote ({error})") from error


def check_schema(data: Mapping[str, Any], kind: str, schema: int) -> dict[str, Any]:
    """Return the data without what a file says of itself.

    Raises:
        BadInput: It is of another kind, or another version of nibt wrote it.

    """
    stated = data.get("kind"), data.get("schema")
    if stated != (kind, schema):
        raise BadInput(f"expected schema {schema} of {kind}, got schema {stated[1]} of {stated[0]}")
    return {name: value for name, value in data.items() if name not in ("kind", "schema", "signature")}
