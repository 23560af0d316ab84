"""Entries of a plan: models, methods, data sets and metrics, each with its options and a label."""

import itertools
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from typing_extensions import override

from nibt.errors import BadOption

if TYPE_CHECKING:
    from nibt.methods.base import MethodSpec

Options = Mapping[str, Any]
EVERY = "*"
"""In place of a name: every plugin of that kind that the plan does not name."""


@dataclass(frozen=True)
class Choice:
    """A plugin with its options.

    Attributes:
        name: The name of the plugin.
        options: Its options; those that are not listed have their defaults.
        label: How tables call it; unique among the entries of its kind.
        key: Its key in the plan, such as ``methods[1]``, for error messages.

    """

    name: str
    options: Options = field(default_factory=dict)
    label: str = ""
    key: str = field(default="", compare=False)

    def record(self) -> dict[str, Any]:
        """Return the entry as a table of a plan."""
        return {"name": self.name, "options": dict(self.options), "label": self.label}


@dataclass(frozen=True)
class MethodChoice(Choice):
    """A method with its options.

    Attributes:
        variant: The variant of the method.
        first: The number of pairs of each data set that are measured, for slow methods. None means all.

    """

    variant: str = "default"
    first: int | None = None

    @property
    def spec(self) -> "MethodSpec":
        """The method with its variant and options."""
        from nibt.methods.base import MethodSpec  # imports torch, which reading a plan does not need

        return MethodSpec(self.name, self.variant, self.options)

    @override
    def record(self) -> dict[str, Any]:
        limit = {} if self.first is None else {"first": self.first}
        return {**super().record(), "variant": self.variant, **limit}


@dataclass(frozen=True)
class MetricChoice(Choice):
    """A metric with its options.

    Attributes:
        measured: The score that the metric evaluates, as in ``nibt.measure``.

    """

    measured: str = "explained"

    @override
    def record(self) -> dict[str, Any]:
        return {**super().record(), "measured": self.measured}


def read_entries(plan: Mapping[str, Any], kind: str) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield the entries of a list of a plan, each with its key; a string is an entry with a name only.

    Raises:
        BadOption: It is not a list of strings and tables, it is empty, or an entry has no name.

    """
    listed = plan.get(kind, [])
    if not isinstance(listed, list) or not listed:
        raise BadOption(f"{kind} must be a list with at least one entry (got {listed!r})")
    for position, entry in enumerate(listed):
        key = f"{kind}[{position}]"
        table = {"name": entry} if isinstance(entry, str) else entry
        if not isinstance(table, dict) or not isinstance(table.get("name"), str):
            raise BadOption(f"{key} must be a name, or a table with a name (got {entry!r})")
        yield key, dict(table)


def check_entry(table: dict[str, Any], key: str, *extra_keys: str) -> dict[str, Any]:
    """Return the entry with its options as a plain dictionary, once its keys and types are checked.

    Raises:
        BadOption: The entry has an unknown key, or a value of the wrong type.

    """
    known = ("name", "options", "label", *extra_keys)
    for name in table:
        if name not in known:
            raise BadOption(f"{key}.{name} is unknown: the keys of an entry are {', '.join(known)}")
    if not isinstance(table.get("options", {}), dict):
        raise BadOption(f"{key}.options must be a table (got {table['options']!r})")
    for name in ("label", "variant", "measured"):
        if not isinstance(table.get(name, ""), str):
            raise BadOption(f"{key}.{name} must be a string (got {table[name]!r})")
    return {**table, "options": dict(table.get("options", {}))}


def expand_grid(table: dict[str, Any], key: str) -> Iterator[dict[str, Any]]:
    """Yield an entry for each combination of the values in its ``grid``.

    >>> [entry["options"] for entry in expand_grid({"name": "nib", "grid": {"steps": [2, 4]}}, "methods[0]")]
    [{'steps': 2}, {'steps': 4}]

    Raises:
        BadOption: The grid is not a table of lists.

    """
    grid = table.pop("grid", {})
    if not isinstance(grid, dict) or not all(isinstance(values, list) and values for values in grid.values()):
        raise BadOption(f"{key}.grid must be a table of lists of values (got {grid!r})")
    for values in itertools.product(*grid.values()):
        yield {**table, "options": {**table.get("options", {}), **dict(zip(grid, values, strict=True))}}


def default_label(name: str, *words: str, **options: Any) -> str:
    """Return the label of an entry without one: its name and everything that differs from its defaults.

    >>> default_label("nib", "paper", steps=4, layer=[1, 2])
    'nib paper steps=4 layer=1,2'

    """
    assignments = (f"{key}={_option_text(value)}" for key, value in options.items())
    return " ".join([name, *(word for word in words if word), *assignments])


def _option_text(value: Any) -> str:
    return ",".join(map(str, value)) if isinstance(value, list | tuple) else str(value)


def as_text(options: Any) -> str:
    """Return options as a line of JSON with sorted keys."""
    return json.dumps(options, sort_keys=True, default=str)
