"""Read a plan from TOML: models x methods x data sets x metrics x targets x seeds. Its format: ``docs/bench.md``."""

import tomllib
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from importlib.resources import files
from pathlib import Path
from typing import Any, TypeVar

from nibt.errors import BadInput, BadOption, UnknownName
from nibt.evaluation import CONTROLS
from nibt.evaluation.bench.choices import (
    EVERY,
    Choice,
    MethodChoice,
    MetricChoice,
    check_entry,
    default_label,
    expand_grid,
    read_entries,
)
from nibt.registry import available
from nibt.types import Modality

_FOLDER = Path(str(files("nibt"))) / "plans"
_AnyChoice = TypeVar("_AnyChoice", bound=Choice)


@dataclass(frozen=True)
class Cell:
    """A model, a method, a data set, a target and a seed, measured with all metrics of the plan."""

    model: Choice
    method: MethodChoice
    data: Choice
    target: str
    seed: int

    def record(self) -> dict[str, Any]:
        """Return everything that identifies the cell."""
        return {
            "model": self.model.record(),
            "method": self.method.record(),
            "data": self.data.record(),
            "target": self.target,
            "seed": self.seed,
        }


@dataclass(frozen=True)
class Plan:
    """What a benchmark measures.

    Attributes:
        models: The models.
        methods: The methods; the negative controls are always among them.
        data: The data sets.
        metrics: The metrics.
        targets: The targets that are explained.
        seeds: Seeds for methods that draw at random; the other methods use the first one only.
        sides: The sides that are explained, ``image`` and ``text``.
        batch_size: The number of pairs in a chunk, which go through the model together and are written together.
        against: Captions to compare with, for targets that compare.
        first: The number of pairs of each data set that are measured. None means all.
        published: Whether the report shows the figures of the paper, too.
        about: The title of the report.

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
        """Read a plan from a TOML file, from a mapping with the same keys, or by the name of a plan of nibt.

        Raises:
            UnknownName: The source is neither a file nor the name of a plan.
            BadInput: The file cannot be read as TOML.
            BadOption: A key is unknown, or its value is not allowed.

        """
        if isinstance(source, Plan):
            return source
        return cls.of(source if isinstance(source, Mapping) else _load(source))

    @classmethod
    def of(cls, content: Mapping[str, Any]) -> "Plan":
        """Build a plan from the keys of its file.

        Raises:
            BadOption: A key is unknown, or its value is not allowed.

        """
        known = [each.name for each in fields(cls)]
        for key in content:
            if key not in known:
                raise BadOption(str(UnknownName("plan keys", key, known)))
        lists = {key: content[key] for key in ("targets", "seeds", "sides", "against") if key in content}
        for key, value in lists.items():
            _check_list(value, key)
        for side in lists.get("sides", []):
            if side not in ("image", "text"):
                raise BadOption(f"sides must be among image, text (got {side!r})")
        plain = {key: content[key] for key in ("batch_size", "first", "published", "about") if key in content}
        for key in ("batch_size", "first"):
            _check_count(plain.get(key), key)
        if not isinstance(plain.get("published", False), bool):
            raise BadOption(f"published must be true or false (got {plain['published']!r})")
        models = [Choice(**check_entry(table, key), key=key) for key, table in read_entries(content, "models")]
        data = [Choice(**check_entry(table, key), key=key) for key, table in read_entries(content, "data")]
        return cls(
            _with_labels(models, "models"),
            _with_labels(_methods(content), "methods"),
            _with_labels(data, "data"),
            _with_labels(_metrics(content), "metrics"),
            **{key: tuple(value) for key, value in lists.items()},
            **plain,
        )

    def record(self) -> dict[str, Any]:
        """Return the plan as the keys of its file, with all defaults filled in."""
        lists = {key: list(getattr(self, key)) for key in ("targets", "seeds", "sides", "against")}
        choices = {
            key: [choice.record() for choice in getattr(self, key)] for key in ("models", "methods", "data", "metrics")
        }
        limit = {} if self.first is None else {"first": self.first}
        rest = {"batch_size": self.batch_size, **limit, "published": self.published, "about": self.about}
        return {**lists, **choices, **rest}

    def count(self, method: MethodChoice, length: int) -> int:
        """Return how many pairs of a data set of that length a method explains."""
        return min(length, *(limit for limit in (method.first, self.first) if limit is not None), length)

    def cells(self, model: Choice, data: Choice, random_methods: Collection[str]) -> Iterator[Cell]:
        """Yield the cells of a model and a data set.

        Methods that are not in ``random_methods`` have a cell for the first seed only.
        """
        for method in self.methods:
            for target in self.targets:
                for seed in self.seeds if method.name in random_methods else self.seeds[:1]:
                    yield Cell(model, method, data, target, seed)


def plans() -> dict[str, str]:
    """Return the titles of the plans that ship with nibt, by name.

    >>> "quick" in plans()
    True

    """
    return {
        path.stem: tomllib.loads(path.read_text(encoding="utf-8"))["about"] for path in sorted(_FOLDER.glob("*.toml"))
    }


def _load(source: str | Path) -> dict[str, Any]:
    """Return the content of a plan's file, or of a plan of nibt by its name."""
    path = Path(source)
    if not path.is_file():
        if path.suffix or path.name != str(source):
            raise BadInput(f"there is no file {str(source)!r}: nibt list plans shows the plans that ship with nibt")
        if path.name not in plans():
            raise UnknownName("plans", path.name, plans())
        path = _FOLDER / f"{path.name}.toml"
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise BadInput(f"{str(source)!r} cannot be read as a plan in TOML ({error})") from error


def _methods(content: Mapping[str, Any]) -> list[MethodChoice]:
    """Return the methods of a plan, followed by the negative controls that it does not name."""
    choices: list[MethodChoice] = []
    for key, table in _expand_star(content, "methods"):
        if "first" in table:
            _check_count(table["first"], f"{key}.first")
        for expanded in expand_grid(table, key):
            entry = check_entry(expanded, key, "variant", "first")
            variant = entry.get("variant", "default")
            usual = default_label(entry["name"], "" if variant == "default" else variant, **entry["options"])
            choices.append(MethodChoice(**{**entry, "label": entry.get("label") or usual}, key=key))
    missing = [name for name in CONTROLS if name not in {choice.name for choice in choices}]
    return choices + [MethodChoice(name, {}, name, "the negative controls") for name in missing]


def _metrics(content: Mapping[str, Any]) -> list[MetricChoice]:
    """Return the metrics of a plan."""
    choices: list[MetricChoice] = []
    for key, table in _expand_star(content, "metrics"):
        entry = check_entry(table, key, "measured")
        measured = entry.get("measured", "explained")
        usual = default_label(entry["name"], "" if measured == "explained" else f"of {measured}", **entry["options"])
        choices.append(MetricChoice(**{**entry, "label": entry.get("label") or usual}, key=key))
    return choices


def _expand_star(content: Mapping[str, Any], kind: str) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield the entries of a kind; ``*`` becomes an entry for each plugin that the plan does not name."""
    entries = list(read_entries(content, kind))
    named = {table["name"] for _, table in entries}
    for key, table in entries:
        names = [table["name"]] if table["name"] != EVERY else [n for n in available(kind) if n not in named]
        for name in names:
            yield key, {**table, "name": name}


def _with_labels(choices: Sequence[_AnyChoice], kind: str) -> tuple[_AnyChoice, ...]:
    """Return the choices with their labels; the default label is the name.

    Raises:
        BadOption: Two choices have the same label.

    """
    labeled = tuple(choice if choice.label else replace(choice, label=choice.name) for choice in choices)
    labels = [choice.label for choice in labeled]
    for position, choice in enumerate(labeled):
        if choice.label in labels[:position]:
            raise BadOption(f"{choice.key} has the label {choice.label!r} of another entry of {kind}: set its label")
    return labeled


def _check_list(value: Any, key: str) -> None:
    kind = int if key == "seeds" else str
    if not isinstance(value, list) or not all(type(element) is kind for element in value):
        raise BadOption(f"{key} must be a list of {'whole numbers' if kind is int else 'strings'} (got {value!r})")
    if key != "against" and (not value or len(set(value)) < len(value)):
        raise BadOption(f"{key} must have at least one entry, and no entry twice (got {value!r})")


def _check_count(value: Any, key: str) -> None:
    if value is not None and (type(value) is not int or value < 1):
        raise BadOption(f"{key} must be a whole number of at least 1 (got {value!r})")
