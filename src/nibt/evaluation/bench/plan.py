"""Read a plan from TOML: models x methods x data sets x metrics x targets x seeds (``docs/reference/plans.md``)."""

import itertools
import tomllib
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from typing_extensions import override

from nibt.errors import BadInput, BadOption, UnknownName
from nibt.evaluation import CONTROLS
from nibt.evaluation.bench.plan_file import ALL, Entry, MethodEntry, MetricEntry, PlanFile
from nibt.io import read_text
from nibt.records import read_record
from nibt.registry import available
from nibt.types import Modality

if TYPE_CHECKING:
    from nibt.methods.base import MethodSpec

_FOLDER = Path(str(files("nibt"))) / "plans"
_AnyEntry = TypeVar("_AnyEntry", bound=Entry)
_AnyChoice = TypeVar("_AnyChoice", bound="Choice")


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
    options: Mapping[str, Any]
    label: str
    key: str = field(compare=False)

    def record(self) -> dict[str, Any]:
        """Return the entry as a table of a plan."""
        return {"name": self.name, "options": dict(self.options), "label": self.label}


@dataclass(frozen=True)
class MethodChoice(Choice):
    """A method with its options.

    Attributes:
        variant: The variant of the method.
        first: The number of pairs of each data set that are measured, for slow methods. None means all.
        any_method: Whether ``*`` listed it, which means the methods that a model can run.

    """

    variant: str = "default"
    first: int | None = None
    any_method: bool = field(default=False, compare=False)

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
    targets: tuple[str, ...]
    seeds: tuple[int, ...]
    sides: tuple[Modality, ...]
    batch_size: int
    against: tuple[str, ...]
    first: int | None
    published: bool
    about: str = field(compare=False)

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
        file = read_record(PlanFile, dict(content), "", BadOption)
        return cls(
            models=_with_unique_labels(_choices(file.models, "models"), "models"),
            methods=_with_unique_labels(_methods(file.methods), "methods"),
            data=_with_unique_labels(_choices(file.data, "data"), "data"),
            metrics=_with_unique_labels(_metrics(file.metrics), "metrics"),
            targets=file.targets,
            seeds=file.seeds,
            sides=file.sides,
            batch_size=file.batch_size,
            against=file.against,
            first=file.first,
            published=file.published,
            about=file.about,
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
                for seed in self.seeds if method.label in random_methods else self.seeds[:1]:
                    yield Cell(model, method, data, target, seed)


def plans() -> dict[str, str]:
    """Return the titles of the plans that ship with nibt, by name.

    >>> "quick" in plans()
    True

    """
    return {path.stem: tomllib.loads(read_text(path))["about"] for path in sorted(_FOLDER.glob("*.toml"))}


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
        return tomllib.loads(read_text(path))
    except (OSError, ValueError) as error:
        raise BadInput(f"{str(source)!r} cannot be read as a plan in TOML ({error})") from error


def _choices(entries: Sequence[Entry], section: str) -> list[Choice]:
    """Return the models or the data sets of a plan."""
    return [
        Choice(entry.name, entry.options, entry.label or entry.name, f"{section}[{position}]")
        for position, entry in enumerate(entries)
    ]


def _methods(entries: Sequence[MethodEntry]) -> list[MethodChoice]:
    """Return the methods of a plan, followed by the negative controls that it does not name."""
    choices: list[MethodChoice] = []
    starred = {f"methods[{position}]" for position, entry in enumerate(entries) if entry.name == ALL}
    for key, entry in _expand_all(entries, "methods"):
        variant = "" if entry.variant == "default" else entry.variant
        for options in expand_grid(entry):
            label = entry.label or default_label(entry.name, variant, **options)
            choices.append(MethodChoice(entry.name, options, label, key, entry.variant, entry.first, key in starred))
    missing = [name for name in CONTROLS if name not in {choice.name for choice in choices}]
    return choices + [MethodChoice(name, {}, name, "the negative controls") for name in missing]


def _metrics(entries: Sequence[MetricEntry]) -> list[MetricChoice]:
    """Return the metrics of a plan."""
    choices: list[MetricChoice] = []
    for key, entry in _expand_all(entries, "metrics"):
        measured = "" if entry.measured == "explained" else f"of {entry.measured}"
        label = entry.label or default_label(entry.name, measured, **entry.options)
        choices.append(MetricChoice(entry.name, entry.options, label, key, entry.measured))
    return choices


def _expand_all(entries: Sequence[_AnyEntry], section: str) -> Iterator[tuple[str, _AnyEntry]]:
    """Yield the entries of a section with their keys; ``*`` becomes an entry for each plugin that is not named."""
    named = {entry.name for entry in entries}
    for position, entry in enumerate(entries):
        names = [name for name in available(section) if name not in named] if entry.name == ALL else [entry.name]
        for name in names:
            yield f"{section}[{position}]", entry.model_copy(update={"name": name})


def expand_grid(entry: MethodEntry) -> Iterator[dict[str, Any]]:
    """Yield the options of an entry for each combination of the values in its ``grid``.

    >>> list(expand_grid(MethodEntry(name="nib", options={"layer": 1}, grid={"steps": [2, 4]})))
    [{'layer': 1, 'steps': 2}, {'layer': 1, 'steps': 4}]

    """
    for values in itertools.product(*entry.grid.values()):
        yield {**entry.options, **dict(zip(entry.grid, values, strict=True))}


def default_label(name: str, *words: str, **options: Any) -> str:
    """Return the label of an entry without one: its name and everything that differs from its defaults.

    >>> default_label("nib", "paper", steps=4, layer=[1, 2])
    'nib paper steps=4 layer=1,2'

    """
    assignments = (f"{key}={_option_text(value)}" for key, value in options.items())
    return " ".join([name, *(word for word in words if word), *assignments])


def _option_text(value: Any) -> str:
    return ",".join(map(str, value)) if isinstance(value, list | tuple) else str(value)


def _with_unique_labels(choices: Sequence[_AnyChoice], section: str) -> tuple[_AnyChoice, ...]:
    """Return the choices, whose labels must differ."""
    labels = [choice.label for choice in choices]
    for position, choice in enumerate(choices):
        if choice.label in labels[:position]:
            raise BadOption(f"{choice.key} has the label {choice.label!r} of another entry of {section}: set its label")
    return tuple(choices)
