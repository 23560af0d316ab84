"""A plan: models x methods x data sets x metrics x targets x seeds, read from TOML. Format: ``docs/bench.md``."""

import tomllib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from importlib.resources import files
from pathlib import Path
from typing import Any

from nibt.errors import BadInput, BadOption, UnknownName
from nibt.evaluation import CONTROLS
from nibt.evaluation.bench.choices import EVERY, Choice, MethodChoice, MetricChoice, entries, labelled, spread, taken
from nibt.registry import available
from nibt.types import Modality

_HERE = Path(str(files("nibt"))) / "plans"


@dataclass(frozen=True)
class Cell:
    """A model, a method, a data set, a target and a seed: what is measured with all metrics on both sides."""

    model: Choice
    method: MethodChoice
    data: Choice
    target: str
    seed: int

    def record(self) -> dict[str, Any]:
        """Its whole address."""
        return {
            "model": self.model.record(),
            "method": self.method.record(),
            "data": self.data.record(),
            "target": self.target,
            "seed": self.seed,
        }


@dataclass(frozen=True)
class Plan:
    """``batch_size`` pairs make a chunk, the unit of work and of the store.

    ``against``: captions to compare with, for targets that compare. ``first``: only so many pairs of each data set.
    ``published``: the report has the paper's figures beside these.
    """

    models: tuple[Choice, ...]
    methods: tuple[MethodChoice, ...]
    data: tuple[Choice, ...]
    metrics: tuple[MetricChoice, ...]
    targets: tuple[str, ...] = ("cosine",)
    seeds: tuple[int, ...] = (0,)
    sides: tuple[Modality, ...] = ("image", "text")
    batch_size: int = 16
    against: tuple[str, ...] = ()
    first: int | None = None
    published: bool = False
    about: str = field(default="", compare=False)

    @classmethod
    def read(cls, source: "str | Path | Mapping[str, Any] | Plan") -> "Plan":
        """A plan from a file, from what such a file holds, or one that ships with nibt, by its name.

        Raises:
            UnknownName: It is neither a file nor the name of a plan.
            BadInput: The file cannot be read as TOML.
            BadOption: A key of it is unknown, or has a value that it cannot have.

        """
        if isinstance(source, Plan):
            return source
        return cls.of(source if isinstance(source, Mapping) else _told(source))

    @classmethod
    def of(cls, told: Mapping[str, Any]) -> "Plan":
        """A plan from the keys of its file.

        Raises:
            BadOption: A key of it is unknown, or has a value that it cannot have.

        """
        known = [one.name for one in fields(cls)]
        for key in told:
            if key not in known:
                raise BadOption(str(UnknownName("plan keys", key, known)))
        lists = {key: told[key] for key in ("targets", "seeds", "sides", "against") if key in told}
        for key, value in lists.items():
            kind = int if key == "seeds" else str
            if not isinstance(value, list) or not all(type(one) is kind for one in value):
                raise BadOption(
                    f"{key} must be a list of {'whole numbers' if kind is int else 'texts'} (got {value!r})"
                )
            if key != "against" and (not value or len(set(value)) < len(value)):
                raise BadOption(f"{key} must have at least one entry and none twice (got {value!r})")
        for side in lists.get("sides", []):
            if side not in ("image", "text"):
                raise BadOption(f"sides must be among image, text (got {side!r})")
        plain = {key: told[key] for key in ("batch_size", "first", "published", "about") if key in told}
        for key in ("batch_size", "first"):
            _check_count(plain.get(key), key)
        if not isinstance(plain.get("published", False), bool):
            raise BadOption(f"published must be true or false (got {plain['published']!r})")
        models = [Choice(**taken(table, key), key=key) for key, table in entries(told, "models")]
        data = [Choice(**taken(table, key), key=key) for key, table in entries(told, "data")]
        return cls(
            _named(models, "models"),
            _named(_methods(told), "methods"),
            _named(data, "data"),
            _named(_metrics(told), "metrics"),
            **{key: tuple(value) for key, value in lists.items()},
            **plain,
        )

    def record(self) -> dict[str, Any]:
        """The plan as its file would have it, with all that was left open written out."""
        told = {key: list(getattr(self, key)) for key in ("targets", "seeds", "sides", "against")}
        told |= {key: [one.record() for one in getattr(self, key)] for key in ("models", "methods", "data", "metrics")}
        limit = {} if self.first is None else {"first": self.first}
        return {**told, "batch_size": self.batch_size, **limit, "published": self.published, "about": self.about}

    def count(self, method: MethodChoice, length: int) -> int:
        """How many pairs of a data set of that length a method explains."""
        return min(length, *(limit for limit in (method.first, self.first) if limit is not None), length)

    def cells(self, model: Choice, data: Choice, drawing: Sequence[str]) -> Iterator[Cell]:
        """The cells of a model and a data set; methods that are not among those ``drawing`` at random come with the
        first seed only.
        """
        for method in self.methods:
            for target in self.targets:
                for seed in self.seeds if method.name in drawing else self.seeds[:1]:
                    yield Cell(model, method, data, target, seed)


def plans() -> dict[str, str]:
    """The plans that ship with nibt, and what each is about.

    >>> "quick" in plans()
    True

    """
    return {
        path.stem: tomllib.loads(path.read_text(encoding="utf-8"))["about"] for path in sorted(_HERE.glob("*.toml"))
    }


def _told(source: str | Path) -> dict[str, Any]:
    path = Path(source)
    if not path.is_file():
        if path.suffix or path.name != str(source):
            raise BadInput(f"there is no plan {str(source)!r}: no such file; nibt list plans has names")
        if path.name not in plans():
            raise UnknownName("plans", path.name, plans())
        path = _HERE / f"{path.name}.toml"
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise BadInput(f"{str(source)!r} cannot be read as a plan in TOML ({error})") from error


def _methods(told: Mapping[str, Any]) -> list[MethodChoice]:
    """Those named, then every other where the plan says so, then the controls, where they are lacking."""
    given = list(entries(told, "methods"))
    named = {table["name"] for _, table in given}
    found: list[MethodChoice] = []
    for key, table in given:
        if "first" in table:
            _check_count(table["first"], f"{key}.first")
        names = [table["name"]] if table["name"] != EVERY else [n for n in available("methods") if n not in named]
        for name in names:
            for one in spread({**table, "name": name}, key):
                entry = taken(one, key, "variant", "first")
                variant = entry.get("variant", "default")
                usual = labelled(name, "" if variant == "default" else variant, **entry["options"])
                found.append(MethodChoice(**{**entry, "label": entry.get("label") or usual}, key=key))
    lacking = [name for name in CONTROLS if name not in {one.name for one in found}]
    return found + [MethodChoice(name, {}, name, "the controls") for name in lacking]


def _metrics(told: Mapping[str, Any]) -> list[MetricChoice]:
    given = list(entries(told, "metrics"))
    named = {table["name"] for _, table in given}
    found: list[MetricChoice] = []
    for key, table in given:
        names = [table["name"]] if table["name"] != EVERY else [n for n in available("metrics") if n not in named]
        for name in names:
            entry = taken({**table, "name": name}, key, "measured")
            measured = entry.get("measured", "explained")
            usual = labelled(name, "" if measured == "explained" else f"of {measured}", **entry["options"])
            found.append(MetricChoice(**{**entry, "label": entry.get("label") or usual}, key=key))
    return found


def _named(found: Sequence[Any], kind: str) -> tuple[Any, ...]:
    """The choices with their labels, which must differ.

    Raises:
        BadOption: Two have the same.

    """
    named = tuple(one if one.label else replace(one, label=one.name) for one in found)
    labels = [one.label for one in named]
    for place, one in enumerate(named):
        if one.label in labels[:place]:
            raise BadOption(
                f"{one.key} has the label {one.label!r}, which another of {kind} has: give it a label of its own"
            )
    return named


def _check_count(value: Any, key: str) -> None:
    if value is not None and (type(value) is not int or value < 1):
        raise BadOption(f"{key} must be a whole number from 1 (got {value!r})")
