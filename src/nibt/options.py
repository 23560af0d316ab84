"""Options of plugins and calls: typed fields, which declare their ranges, and the one place that reads their values.

    masks: Annotated[int, Range(1, 100_000)] = 6000
    hide: Annotated[str, OneOf(("mean", "blur", "noise"))] = "mean"

A value may come from a command line, a plan or Python: ``parsed`` converts it to the type of its field, and
``complete`` does so for all fields of a plugin when it is created.
"""

import dataclasses
import inspect
import json
import math
import os
from collections.abc import Hashable, Iterable, Iterator, Mapping, Sequence
from functools import lru_cache
from hashlib import sha256
from typing import (
    Annotated,
    Any,
    ClassVar,
    NamedTuple,
    Protocol,
    TypeAlias,
    get_args,
    get_origin,
    get_type_hints,
    runtime_checkable,
)

from annotated_types import BaseMetadata, Ge, GroupedMetadata, Gt, Le, Lt

from nibt.errors import BadOption

Keywords: TypeAlias = dict[str, Any]
"""Options, or other arguments of a call, by their names."""


@runtime_checkable
class HasOptions(Protocol):
    """A dataclass, such as a plugin, whose fields are options."""

    __dataclass_fields__: ClassVar[dict[str, dataclasses.Field[Any]]]


@dataclasses.dataclass(frozen=True)
class Range(GroupedMetadata):
    """The numbers that an option may have. Records of pydantic know it, too."""

    low: float | int
    high: float | int = math.inf
    above: bool = False
    below: bool = False

    def __iter__(self) -> Iterator[BaseMetadata]:
        yield Gt(self.low) if self.above else Ge(self.low)
        if math.isfinite(self.high):
            yield Lt(self.high) if self.below else Le(self.high)

    def __str__(self) -> str:
        """Return the range in words.

        >>> str(Range(1, 1000)), str(Range(0, above=True)), str(Range(0, 1, above=True))
        ('between 1 and 1,000', 'above 0', 'above 0 and at most 1')
        """
        if not self.above and not self.below and math.isfinite(self.high):
            return f"between {self.low:,} and {self.high:,}"

        low = f"{'above' if self.above else 'at least'} {self.low:,}"
        return low + (f" and {'below' if self.below else 'at most'} {self.high:,}" if math.isfinite(self.high) else "")


class OneOf(tuple[Any, ...]):
    """The values that an option may have, where they are listed.

    >>> str(OneOf(("first", "best")))
    'one of first, best'
    """

    def __str__(self) -> str:
        return f"one of {', '.join(map(str, self))}"


class Either(OneOf):
    """The values that an option may have, which messages list with "or"."""

    def __str__(self) -> str:
        return f"{', '.join(self[:-1])} or {self[-1]}"


Seed = Annotated[int, Range(0, 2**32 - 1)]
Steps = Annotated[int, Range(1, 1000)]
Samples = Annotated[int, Range(1, 100_000)]
"""A number of draws."""
Positive = Annotated[float, Range(0, above=True)]
NotNegative = Annotated[float, Range(0)]
OpenShare = Annotated[float, Range(0, 1, above=True, below=True)]
ClosedShare = Annotated[float, Range(0, 1)]
Blocks = Annotated[int, Range(1, 10_000)]
Levels = Annotated[int, Range(1, 1000)]
Share = Annotated[float, Range(0, 1, above=True)]
Count = Annotated[int, Range(0, 10_000_000)]
Views = Annotated[int, Range(1, 16)]
LARGEST_SIDE = 4096
"""The largest side of an input of an image tower, in pixels."""
ImageSize = Annotated[int, Range(16, LARGEST_SIDE)]
Top = Annotated[int, Range(1, 10_000)]
Repeats = Annotated[int, Range(1, 1000)]
Workers = Annotated[int, Range(1, 10_000)]
Percent = Annotated[int, Range(1, 99)]
Epochs = Annotated[int, Range(1, 100_000)]
TrainBatch = Annotated[int, Range(2, 1_000_000)]
BatchSize = Annotated[int, Range(1, 1_000_000)]
RequestCount = Annotated[int, Range(1, 10_000_000)]
TokenCount = Annotated[int, Range(1, 10**12)]
PartCount = Annotated[int, Range(1, 100)]
Layer = Annotated[int, Range(0, 10_000)]
FigureWidth = Annotated[float, Range(1, 40)]
"""The width of a figure, in inches."""
Megabytes = Annotated[float, Range(0, 10**9, above=True)]

_NAMES = {int: "a whole number", float: "a number", str: "text", bool: "true or false"}


Layers = Annotated[tuple[int, ...], "layers"]
"""One layer or several: a whole number, or a list of them."""
LayerOption: TypeAlias = int | float | str | Sequence[int]
"""What a user gives: a layer, a share of the depth, a list of layers, or the text of one of them."""


def assignments(pairs: Iterable[str], option: str, keep_names: bool = False) -> dict[str, str]:
    """Return ``name=value`` texts as a mapping; names may have hyphens in place of underscores, as in commands.

    >>> assignments(["batch-size=8"], "--load")
    {'batch_size': '8'}
    """
    values: dict[str, str] = {}
    for pair in pairs:
        name, equals, value = pair.partition("=")
        key = name.strip() if keep_names else name.strip().replace("-", "_")
        if not equals or not key:
            raise BadOption(f"{option} must be name=value (got {pair!r})")
        if key in values:
            raise BadOption(f"{option} sets {key} twice ({values[key]!r} and {value!r}): set it once")
        values[key] = value

    return values


def parsed(name: str, value: object, field_type: Hashable) -> Any:
    """Convert the value of an option to the type of its field, which may be one of several or have a range."""
    if field_type in (Layers, tuple[int, ...]):
        return _parsed_layers(name, value)

    rule = _rule(field_type)
    if rule is None or (value is None and rule.takes_none):
        return value

    limits = rule.limits
    if rule.target is str and not isinstance(value, str | os.PathLike):
        raise BadOption(f"{name} must be {limits or _NAMES[str]} (got {value!r:.60})")

    try:
        converted = _converted(value, rule.target)
    except (ValueError, TypeError, KeyError, OverflowError) as error:
        raise BadOption(f"{name} must be {_NAMES[rule.target]} (got {value!r:.100})") from error

    _check_limits(name, converted, rule)
    return converted


def _parsed_layers(name: str, value: object) -> Layers:
    """Return one layer, or a list of them, as numbers."""
    values = value if isinstance(value, list | tuple) else [value]
    layers = tuple(parsed(name, layer, int) for layer in values)
    if not layers:
        raise BadOption(f"{name} must name at least one layer (got an empty list)")
    return layers


def _converted(value: Any, target: type) -> Any:
    """Return a value as a text, a truth value or a number; a truth value is no number, and 1.5 no whole one."""
    if target is str:
        return str(value)
    if target is bool:
        return value if isinstance(value, bool) else {"true": True, "false": False}[str(value).lower()]
    if isinstance(value, bool):
        raise ValueError

    number = value if isinstance(value, int) else float(value)
    if target is int and number != int(number):
        raise ValueError
    return target(number)


def check_mapping(name: str, value: object) -> None:
    """Check that an argument is a mapping or None."""
    if not isinstance(value, Mapping | None):
        raise BadOption(f"{name} must be a mapping (got {value!r:.60})")


def check_facts(name: str, value: Mapping[str, object] | None) -> None:
    """Check that an argument is None or a mapping that a JSON file can hold, since it is saved with a result."""
    check_mapping(name, value)
    try:
        json.dumps(value, allow_nan=False)
    except (TypeError, ValueError, RecursionError) as error:
        raise BadOption(f"{name} must have plain values, as JSON has them ({error}): leave the others out") from error

    others = [key for key in value or () if not isinstance(key, str)]
    if others:
        raise BadOption(f"{name} must have texts as keys (got {others[0]!r:.60}): name each value")


def complete(plugin: HasOptions) -> None:
    """Convert all fields of a new plugin to their types; its ``__post_init__`` calls this."""
    types = field_types(type(plugin))
    for field in dataclasses.fields(plugin):
        if field.init and not field.name.startswith("_"):
            value = parsed(field.name, getattr(plugin, field.name), types[field.name])
            object.__setattr__(plugin, field.name, value)  # plugins are frozen


def changed_options(plugin: HasOptions) -> Keywords:
    """Return the options of a plugin that differ from their defaults, with tuples as lists, and functions by source."""
    changed: Keywords = {}
    for field in dataclasses.fields(plugin):
        value = getattr(plugin, field.name)
        if value != field.default:
            changed[field.name] = list(value) if isinstance(value, tuple) else _by_source(value)
    return changed


def _by_source(value: object) -> object:
    """Return a function as its name and a hash of its source and bound values; anything else as it is."""
    if not inspect.isfunction(value):
        return value

    try:
        # two functions with one source, such as those of a factory, may differ in the values that they hold
        bound = value.__defaults__, value.__kwdefaults__, inspect.getclosurevars(value).nonlocals
        text = inspect.getsource(value) + repr(bound)
    except OSError:  # typed at a prompt: it is that of this session
        text = repr(value)

    return f"{value.__name__} {sha256(text.encode()).hexdigest()[:16]}"


@lru_cache(maxsize=256)
def field_types(dataclass_type: type) -> Mapping[str, Any]:
    """Return the types of the fields of a dataclass, also where its module has postponed annotations."""
    types: dict[str, Any] = {field.name: field.type for field in dataclasses.fields(dataclass_type)}
    if not any(isinstance(declared, str) for declared in types.values()):
        return types

    try:
        return types | get_type_hints(dataclass_type, include_extras=True)
    except Exception:  # a name that exists for type checkers only
        return types


class _Rule(NamedTuple):
    target: type
    limits: Range | OneOf | None = None
    takes_none: bool = False
    least: float = -math.inf  # of a range, the bounds with their ends
    most: float = math.inf


@lru_cache(maxsize=1024)
def _rule(field_type: Hashable) -> _Rule | None:
    """Return the simple type of a field, its range or values, and whether it may be None; None for other types."""
    if isinstance(field_type, type) and field_type in _NAMES:
        return _Rule(field_type)

    members = get_args(field_type)
    if get_origin(field_type) is Annotated:
        limits = next((note for note in members[1:] if isinstance(note, Range | OneOf)), None)
        return _with_limits(_rule(members[0]), limits)

    plain = [member for member in members if member is not type(None)]
    if len(members) != 2 or len(plain) != 1:  # it is not one type or None
        return None

    rule = _rule(plain[0])
    return rule and rule._replace(takes_none=True)


def _with_limits(rule: _Rule | None, limits: Range | OneOf | None) -> _Rule | None:
    if rule is None or limits is None:
        return rule
    if isinstance(limits, OneOf):
        return rule._replace(limits=limits)

    least = math.nextafter(limits.low, math.inf) if limits.above else limits.low
    most = limits.high
    if limits.below or math.isinf(most):  # no range has infinity
        most = math.nextafter(most, -math.inf)
    return rule._replace(limits=limits, least=least, most=most)


def _check_limits(name: str, value: Any, rule: _Rule) -> None:
    """Check that a value is finite, and allowed."""
    limits = rule.limits
    is_open = limits is None or (isinstance(limits, Range) and math.isinf(limits.high))
    if is_open and isinstance(value, float) and not math.isfinite(value):
        which = "a finite number" if limits is None else f"a finite number {limits}"
        raise BadOption(f"{name} must be {which} (got {value})")
    if limits is None:
        return

    allowed = rule.least <= value <= rule.most if isinstance(limits, Range) else value in limits
    if not allowed:
        raise BadOption(f"{name} must be {limits} (got {value!r:.40})")
