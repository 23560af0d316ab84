"""Validation of the contents of JSON, TOML and manifest files as typed records.

A record is a frozen dataclass, a ``TypedDict`` or a pydantic model. pydantic is imported when the first record is
read, so that ``import nibt`` and ``nibt --help`` stay fast.
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from difflib import get_close_matches
from functools import lru_cache
from typing import Any, Literal, TypeAlias, TypeVar

from nibt.errors import TOO_DEEP, BadInput, NibtError

JsonObject: TypeAlias = dict[str, Any]
"""An object of a file in JSON or TOML."""
_Record = TypeVar("_Record")
_MOST = 3  # the number of mistakes in a message


def read_record(record_type: type[_Record], data: object, where: str, error: type[NibtError] = BadInput) -> _Record:
    """Build a record from plain data."""
    with described(record_type, where, error):
        return _validator(record_type).validate_python(data)


def is_finite(value: object) -> bool:
    """Return whether a value is a number that is finite."""
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


@contextmanager
def described(record_type: type, where: str, error: type[NibtError] = BadInput) -> Iterator[None]:
    """Raise the mistakes of a validation as one error of nibt."""
    from pydantic import ValidationError

    try:
        yield
    except (ValidationError, RecursionError) as mistakes:
        text = TOO_DEEP
        if isinstance(mistakes, ValidationError):
            text = describe(mistakes.errors(include_url=False), json_schema(record_type))
        raise error(f"{where}: {text}" if where else text) from mistakes


def plain_data(record: object) -> JsonObject:
    """Return a record as plain data."""
    return _adapter(type(record)).dump_python(record, mode="json")


def json_schema(record_type: type, mode: Literal["validation", "serialization"] = "validation") -> JsonObject:
    """Return the JSON Schema of a record, of what is read or of what is written."""
    return _adapter(record_type).json_schema(by_alias=True, mode=mode)


def describe(mistakes: Sequence[Mapping[str, Any]], schema: JsonObject) -> str:
    """Return a message about the first mistakes of a validation, with their keys.

    >>> describe([{"type": "missing", "loc": ("image", "grid", 0), "msg": "Field required", "input": {}}], {})
    'image.grid[0] is missing'
    """
    # a list without its wrong entries is too short, too
    inside = {mistake["loc"][:depth] for mistake in mistakes for depth in range(len(mistake["loc"]))}
    mistakes = [mistake for mistake in mistakes if mistake["type"] != "too_short" or mistake["loc"] not in inside]
    more = [f"and {len(mistakes) - _MOST} more"] if len(mistakes) > _MOST else []
    return "; ".join([*(_describe(mistake, schema) for mistake in mistakes[:_MOST]), *more])


def _describe(mistake: Mapping[str, Any], schema: JsonObject) -> str:
    value = mistake["input"]
    location, names = _location(mistake["loc"], schema)
    place = place_of(location)
    got = repr(value) if len(repr(value)) <= 60 else f"{repr(value)[:60]}..."
    match mistake["type"]:
        case "missing":
            return f"{place} is missing"
        case "extra_forbidden" | "unexpected_keyword_argument":
            near = get_close_matches(str(location[-1]), names, n=1)
            return f"{place} is unknown" + (f": did you mean {near[0]!r}?" if near else "")
        case "list_type" | "tuple_type":
            return f"{place} must be a list (got {got})"
        case "too_short":
            least = mistake["ctx"]["min_length"]
            return f"{place} must have at least {least} {'entry' if least == 1 else 'entries'} (got {got})"
        case "union_tag_not_found" | "union_tag_invalid":
            place = place_of([*location, mistake["ctx"]["discriminator"].strip("'")])
            if mistake["type"] == "union_tag_not_found":
                return f"{place} is missing"
            return f"{place} must be one of {mistake['ctx']['expected_tags']} (got {mistake['ctx']['tag']!r:.60})"
        case "value_error":
            text = str(mistake["msg"]).removeprefix("Value error, ")
            return f"{place} {text}" if text.startswith("must ") else f"{place}: {text}" if place else text
        case _:
            text = str(mistake["msg"]).replace("Input should be", "must be")
            return f"{place} {text[:1].lower()}{text[1:]} (got {got})".lstrip()


def _location(place: Sequence[str | int], schema: JsonObject) -> tuple[list[str | int], list[str]]:
    """Return the keys to a value, without pydantic's tags of unions, and the names that a JSON Schema has beside it."""
    definitions = schema.get("$defs", {})
    node = schema
    keys = []
    names = []
    for key in place:
        tags = node.get("discriminator", {}).get("mapping", {})
        if key in tags:  # a member of a union, which the data do not name by a key
            node = {"$ref": tags[key]}
        else:
            keys.append(key)
            properties = node.get("properties", {})
            names = list(properties)
            others = node.get("additionalProperties") or {}
            node = node.get("items", {}) if isinstance(key, int) else properties.get(key, others)

        if not isinstance(node, dict):  # of a key that has no schema
            node = {}
        reference = str(node.get("$ref", "")).rpartition("/")[2]
        node = definitions.get(reference, node)

    return keys, names


def place_of(location: Sequence[str | int]) -> str:
    """Return the location of a value in plain data as text.

    >>> place_of(("methods", 0, "options"))
    'methods[0].options'
    """
    place = ""
    for key in location:
        place += f"[{key}]" if isinstance(key, int) else f".{key}" if place else str(key)
    return place


@lru_cache
def _adapter(record_type: type) -> Any:
    from pydantic import TypeAdapter

    return TypeAdapter(record_type)


@lru_cache
def _validator(record_type: type) -> Any:
    """Return what validates plain data, and reads no number from a text, as pydantic does by default."""
    adapter = _adapter(record_type)
    return type(adapter.validator)(_strict(adapter.core_schema))


def _strict(schema: object) -> object:
    """Return a schema of pydantic in which numbers and truths are not read from other types, as ``"0.3"``."""
    # the strict mode of pydantic would also refuse lists for tuples, and JSON has no tuples
    if isinstance(schema, list | tuple):
        return type(schema)(map(_strict, schema))
    if not isinstance(schema, dict):
        return schema
    strict = {"strict": True} if schema.get("type") in ("float", "int", "bool") else {}
    return {key: _strict(value) for key, value in schema.items()} | strict
