"""What a plan chooses: models, methods, data sets and metrics, each with its options, and how each is called."""

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
"""Instead of a name: every part of that kind that the plan does not name."""


@dataclass(frozen=True)
class Choice:
    """A part with its options. ``key`` is its place in the plan, for messages; ``label`` is unlike its siblings'."""

    name: str
    options: Options = field(default_factory=dict)
    label: str = ""
    key: str = field(default="", compare=False)

    def record(self) -> dict[str, Any]:
        """As a plan has it."""
        return {"name": self.name, "options": dict(self.options), "label": self.label}


@dataclass(frozen=True)
class MethodChoice(Choice):
    """``first``: only so many pairs of each data set, where a method is too dear for all."""

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
    """``measured``: the score that the metric looks at, as in ``nibt.measure``."""

    measured: str = "explained"

    @override
    def record(self) -> dict[str, Any]:
        return {**super().record(), "measured": self.measured}


def entries(told: Mapping[str, Any], kind: str, required: bool = True) -> Iterator[tuple[str, dict[str, Any]]]:
    """The entries of a list of a plan, each with its place; a text stands for a name alone.

    Raises:
        BadOption: It is no list of texts and tables, it is empty, or an entry has no name.

    """
    given = told.get(kind, [])
    if not isinstance(given, list) or (required and not given):
        raise BadOption(f"{kind} must be a list with at least one entry (got {given!r})")
    for place, entry in enumerate(given):
        key = f"{kind}[{place}]"
        table = {"name": entry} if isinstance(entry, str) else entry
        if not isinstance(table, dict) or not isinstance(table.get("name"), str):
            raise BadOption(f"{key} must be a name, or a table with a name (got {entry!r})")
        yield key, dict(table)


def taken(table: dict[str, Any], key: str, *known: str) -> dict[str, Any]:
    """The entry with its options as a plain mapping.

    Raises:
        BadOption: The entry has a key that is not known, or its options are no table.

    """
    for name in table:
        if name not in ("name", "options", "label", *known):
            raise BadOption(f"{key}.{name} is not known here: an entry has name, options, label, {', '.join(known)}")
    if not isinstance(table.get("options", {}), dict):
        raise BadOption(f"{key}.options must be a table (got {table['options']!r})")
    for name in ("label", "variant", "measured"):
        if not isinstance(table.get(name, ""), str):
            raise BadOption(f"{key}.{name} must be a text (got {table[name]!r})")
    return {**table, "options": dict(table.get("options", {}))}


def spread(table: dict[str, Any], key: str) -> Iterator[dict[str, Any]]:
    """An entry for each combination of the values in its ``grid``.

    >>> [one["options"] for one in spread({"name": "nib", "grid": {"steps": [2, 4]}}, "methods[0]")]
    [{'steps': 2}, {'steps': 4}]

    Raises:
        BadOption: The grid is no table of lists.

    """
    grid = table.pop("grid", {})
    if not isinstance(grid, dict) or not all(isinstance(values, list) and values for values in grid.values()):
        raise BadOption(f"{key}.grid must be a table of lists of values (got {grid!r})")
    for values in itertools.product(*grid.values()):
        yield {**table, "options": {**table.get("options", {}), **dict(zip(grid, values, strict=True))}}


def labelled(name: str, *parts: str, **options: Any) -> str:
    """What a choice is called: its name and all that is not its default.

    >>> labelled("nib", "paper", steps=4, layer=[1, 2])
    'nib paper steps=4 layer=1,2'

    """
    told = (f"{key}={_plain(value)}" for key, value in options.items())
    return " ".join([name, *(part for part in parts if part), *told])


def _plain(value: Any) -> str:
    return ",".join(map(str, value)) if isinstance(value, list | tuple) else str(value)


def as_text(options: Any) -> str:
    """Options as one line of JSON, the same for the same options."""
    return json.dumps(options, sort_keys=True, default=str)
