"""Read a plan from TOML: models x methods x data sets x metrics x targets x seeds (``docs/reference/plans.md``)."""

import itertools
import math
from collections.abc import Hashable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, TypeVar

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, PrivateAttr

from nibt.errors import BadInput, BadOption, UnknownName, reason
from nibt.evaluation import CONTROLS
from nibt.io import load_toml
from nibt.options import BatchSize, Keywords, Seed, changed_options
from nibt.records import JsonObject, described, read_record
from nibt.registry import available, find, parse_method
from nibt.types import MeasuredSide

if TYPE_CHECKING:
    from nibt.methods.base import MethodSpec

_FOLDER = Path(str(files("nibt.evaluation.bench"))) / "plans"
_ALL = "*"  # in place of a name: every plugin of that section that the plan does not name
_MOST_ENTRIES = 1000
_Value = TypeVar("_Value", bound=Hashable)
_AnyChoice = TypeVar("_AnyChoice", bound="Choice")
_Count = Annotated[BatchSize, Field(strict=True)]


class Choice(BaseModel):
    """A model, a data set, a method or a metric."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str = Field(min_length=1, description="The name of the plugin; of a model, also a folder or a hub's name.")
    options: Keywords = Field({}, description="Its options; the others have their defaults.")
    label: str = Field("", description="How tables call it; by default its name and what differs from the defaults.")

    _key: str = PrivateAttr("")
    _any_plugin: bool = PrivateAttr(False)
    _instance: Any = PrivateAttr(None)

    @property
    def key(self) -> str:
        """Its key in the plan, such as ``methods[1]``, for error messages."""
        return self._key

    @property
    def any_plugin(self) -> bool:
        """Whether ``*`` listed it, which means the methods that a model can run."""
        return self._any_plugin

    @property
    def instance(self) -> Any:
        """The object that the plan has in place of a name; None if it has a name."""
        return self._instance

    def placed(self: _AnyChoice, key: str, any_plugin: bool = False) -> _AnyChoice:
        """Return a copy with its key in the plan."""
        choice = self.model_copy()
        choice._key, choice._any_plugin = key, any_plugin
        return choice

    def with_options(self: _AnyChoice, **options: Any) -> _AnyChoice:
        """Return a copy with other values of some options."""
        return self.model_copy(update={"options": {**self.options, **options}})

    def default_label(self) -> str:
        """Return the label if the plan has none."""
        return self.name

    def record(self) -> JsonObject:
        """Return the entry as a table of a plan."""
        return self.model_dump(exclude={"grid"}, exclude_none=True)


class PluginChoice(Choice):
    """A method or a metric."""

    group: ClassVar[str]

    @property
    def plugin(self) -> Any:
        return find(self.group, self.name) if self.instance is None else type(self.instance)

    @property
    def is_known(self) -> bool:
        """Whether the class can be found; that of a script that measured the plan cannot, in another one."""
        return self.instance is not None or self.name in available(self.group)


class MethodChoice(PluginChoice):
    """A method."""

    group: ClassVar[str] = "methods"

    variant: str = Field("default", description="The variant of the method.")
    count: _Count | None = Field(None, description="Measure only so many pairs of each data set: for slow methods.")
    grid: dict[str, Annotated[list[Any], Field(min_length=1)]] = Field(
        {}, description="Lists of values by option: an entry for each combination."
    )

    def expanded(self) -> Iterator["MethodChoice"]:
        """Yield the method with each combination of the values in its ``grid``.

        >>> method = MethodChoice(name="nib", options={"layer": 1}, grid={"steps": [2, 4]})
        >>> [choice.options for choice in method.expanded()]
        [{'layer': 1, 'steps': 2}, {'layer': 1, 'steps': 4}]
        """
        both = sorted(self.options.keys() & self.grid.keys())
        if both:
            raise BadOption(f"{self.key}.grid sets {both[0]}, which the entry's options set, too: set it once")
        if math.prod(map(len, self.grid.values())) > _MOST_ENTRIES:
            raise BadOption(f"{self.key}.grid must have at most {_MOST_ENTRIES:,} combinations: leave out values")
        for values in itertools.product(*self.grid.values()):
            yield self.with_options(**dict(zip(self.grid, values, strict=True)))

    @property
    def draws(self) -> bool:
        """Whether the seeds of the plan are for this method; an object has its own seed."""
        return self.instance is None and self.is_known and self.plugin.draws(self.options)

    @property
    def spec(self) -> "MethodSpec":
        from nibt.methods.base import MethodSpec  # imports torch, which reading a plan does not need

        if self.instance is not None:
            return MethodSpec.of(self.instance)
        return MethodSpec(self.name, self.variant, self.options)

    def default_label(self) -> str:
        return default_label(self.name, "" if self.variant == "default" else self.variant, **self.options)


class MetricChoice(PluginChoice):
    """A metric."""

    group: ClassVar[str] = "metrics"

    measured: str = Field("explained", description="The score that is measured, a target; default: the explained one.")

    def default_label(self) -> str:
        measured = "" if self.measured == "explained" else f"of {self.measured}"
        return default_label(self.name, measured, **self.options)


class ProtocolStep(BaseModel):
    """A step of a published evaluation, and how the plan does it."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    step: str = Field(min_length=1, description="The step.")
    authors: str = Field(min_length=1, description="What the authors' program or paper does.")
    source: str = Field(min_length=1, description="Where it does it: repository and file, or a section of the paper.")
    here: str = Field("the same", description="What the plan does: the same, or what differs, and why.")


class PublishedValue(BaseModel):
    """A published number, by the labels of the plan."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    data: str
    method: str
    metric: str
    side: MeasuredSide = "image"
    value: float = Field(allow_inf_nan=False)
    source: str = Field(min_length=1, description="The table and the model that it is for.")


@dataclass(frozen=True)
class Cell:
    """A model, a method, a data set, a target and a seed, measured with all metrics of the plan."""

    model: Choice
    method: MethodChoice
    data: Choice
    target: str
    seed: int

    def record(self) -> JsonObject:
        """Return everything that identifies the cell."""
        choices = {"model": self.model.record(), "method": self.method.record(), "data": self.data.record()}
        return {**choices, "target": self.target, "seed": self.seed}


@dataclass(frozen=True)
class _Entry:
    """Reads an entry of a plan: a name, a table with a name, or an object of a class of nibt."""

    module: str
    class_name: str
    choice: type[Choice] = Choice

    def __call__(self, entry: Any) -> Any:
        if isinstance(entry, dict | Choice):
            return entry
        if isinstance(entry, str):
            if self.choice is not MethodChoice or entry == _ALL:
                return {"name": entry}
            try:
                name, variant, options = parse_method(entry)
            except UnknownName:
                return {"name": entry}  # an error with the key of the entry, later
            return {"name": name, "variant": variant, "options": options}
        bases = {base.__name__ for base in type(entry).__mro__ if base.__module__ == self.module}
        if self.class_name not in bases:  # no import, since those of plans need no torch
            raise ValueError(f"must be a name, a table with a name, or a {self.class_name} (got {entry!r:.100})")
        options = changed_options(entry) if self.choice is not Choice else {}
        choice = self.choice(name=getattr(entry, "id", "") or entry.name, options=options, label="")
        choice._instance = entry
        return choice


def _unique(values: Sequence[_Value]) -> Sequence[_Value]:
    if not values or len(set(values)) < len(values):
        raise ValueError(f"must have at least one entry, and no entry twice (got {list(values)!r})")
    return values


_FilledList = Field(min_length=1)
_MODEL, _DATA = _Entry("nibt.models.base", "Model"), _Entry("nibt.datasets.base", "Dataset")
_METHOD = _Entry("nibt.methods.base", "Method", MethodChoice)
_METRIC = _Entry("nibt.metrics.base", "Metric", MetricChoice)
_Models = Annotated[tuple[Annotated[Choice, BeforeValidator(_MODEL, str | Choice)], ...], _FilledList]
_Data = Annotated[tuple[Annotated[Choice, BeforeValidator(_DATA, str | Choice)], ...], _FilledList]
_Methods = Annotated[tuple[Annotated[MethodChoice, BeforeValidator(_METHOD, str | MethodChoice)], ...], _FilledList]
_Metrics = Annotated[tuple[Annotated[MetricChoice, BeforeValidator(_METRIC, str | MetricChoice)], ...], _FilledList]


class Plan(BaseModel):
    """What a benchmark measures: models x methods x data sets x metrics x targets x seeds."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    models: _Models = Field(description="The models.")
    methods: _Methods = Field(description='The methods; "*" is every other method that the model can run.')
    data: _Data = Field(description="The data sets.")
    metrics: _Metrics = Field(description='The metrics; "*" is every metric of the sides that is not named.')
    targets: Annotated[tuple[str, ...], AfterValidator(_unique)] = Field(
        ("cosine",), description="The targets that are explained."
    )
    seeds: Annotated[tuple[Annotated[Seed, Field(strict=True)], ...], AfterValidator(_unique)] = Field(
        (0,), description="Seeds for methods that draw at random; the other methods use the first one only."
    )
    sides: Annotated[tuple[MeasuredSide, ...], AfterValidator(_unique)] = Field(
        ("image", "text"), description='The sides that are explained; a metric of regions adds "regions".'
    )
    batch_size: _Count = Field(16, description="The number of pairs that go through a model and are written together.")
    against: tuple[str, ...] = Field((), description="Captions to compare with, for targets that compare.")
    count: _Count | None = Field(None, description="Measure only so many pairs of each data set.")
    protocol: tuple[ProtocolStep, ...] = Field((), description="The published evaluation that the plan repeats.")
    published: bool = Field(False, strict=True, description="Whether the report shows the figures of the paper, too.")
    published_values: tuple[PublishedValue, ...] = Field((), description="Published numbers that the report shows.")
    about: str = Field("", description="The title of the report.")

    def __init__(self, **entries: Any) -> None:
        with described(type(self), "", BadOption):
            super().__init__(**entries)

    @classmethod
    def read(cls, source: "str | Path | Mapping[str, Any] | Plan") -> "Plan":
        """Read a plan from a TOML file, from a mapping with the same keys, or by the name of a plan of nibt.

        ``*`` and grids are expanded, labels are filled in, and the negative controls are added, as is the side
        ``regions`` if a metric measures it.

        Raises:
            UnknownName: The source is neither a file nor the name of a plan.
            BadInput: The file cannot be read as TOML.
            BadOption: A key is unknown, or its value is not allowed.
        """
        if isinstance(source, Plan):
            return source
        if not isinstance(source, str | Path | Mapping):
            raise BadInput(f"a plan must be its name, a TOML file, a mapping or a Plan (got {type(source).__name__})")
        plan = read_record(cls, dict(source) if isinstance(source, Mapping) else _load(source), "", BadOption)
        methods = [choice for method in _expand_all(plan.methods, "methods") for choice in method.expanded()]
        missing = [name for name in CONTROLS if name not in {method.name for method in methods}]
        methods += [MethodChoice.model_validate({"name": name}).placed("the negative controls") for name in missing]
        expanded = _expand_all(plan.metrics, "metrics")
        metrics = [
            metric
            for metric in expanded
            if not metric.any_plugin or (_measures(metric, plan.sides) and not metric.plugin.only_by_name)
        ]
        is_new = "regions" not in plan.sides and any(_measures(metric, ["regions"]) for metric in metrics)
        choices: dict[str, Sequence[Choice]] = {
            "models": [choice.placed(f"models[{position}]") for position, choice in enumerate(plan.models)],
            "methods": methods,
            "data": [choice.placed(f"data[{position}]") for position, choice in enumerate(plan.data)],
            "metrics": metrics,
        }
        labeled: dict[str, Any] = {}
        for section, entries in choices.items():
            by_label: dict[str, Choice] = {}
            for choice in entries:
                label = choice.label or choice.default_label()
                if label in by_label:
                    raise BadOption(
                        f"{choice.key} has the label {label!r} of another entry of {section}: set its label"
                    )
                by_label[label] = choice.model_copy(update={"label": label})
            labeled[section] = tuple(by_label.values())
        return plan.model_copy(update={**labeled, "sides": (*plan.sides, "regions") if is_new else plan.sides})

    def record(self) -> JsonObject:
        """Return the plan as the keys of its file, with all defaults filled in."""
        return self.model_dump(exclude={"methods": {"__all__": {"grid"}}}, exclude_none=True)

    def length(self, method: MethodChoice, length: int) -> int:
        """Return how many pairs of a data set of that length a method explains."""
        return min(limit for limit in (method.count, self.count, length) if limit is not None)

    def cells(self, model: Choice, data: Choice) -> Iterator[Cell]:
        """Yield the cells of a model and a data set; methods that do not draw have the first seed only."""
        for method in self.methods:
            for target in self.targets:
                for seed in self.seeds if method.draws else self.seeds[:1]:
                    yield Cell(model, method, data, target, seed)


def plans() -> dict[str, str]:
    """Return the titles of the plans that ship with nibt, by name.

    >>> "quick" in plans()
    True
    """
    return {path.stem: load_toml(path)["about"] for path in sorted(_FOLDER.glob("*.toml"))}


def _measures(metric: MetricChoice, sides: Sequence[MeasuredSide]) -> bool:
    """Return whether a metric measures any of the sides. An unknown name, which is an error later, measures none."""
    return metric.is_known and not set(sides).isdisjoint(metric.plugin.sides)


def _load(source: str | Path) -> JsonObject:
    """Return the content of a plan's file, or of a plan of nibt by its name."""
    path = Path(source)
    if not path.is_file():
        if path.suffix or path.name != str(source):
            raise BadInput(f"there is no file {str(source)!r}: nibt list plans shows the plans that ship with nibt")
        if path.name not in plans():
            raise UnknownName("plans", path.name, plans())
        path = _FOLDER / f"{path.name}.toml"
    try:
        return load_toml(path)
    except (OSError, ValueError) as error:
        raise BadInput(f"{str(source)!r} cannot be read as a plan in TOML ({reason(error)})") from error


def _expand_all(choices: Sequence[_AnyChoice], section: str) -> Iterator[_AnyChoice]:
    """Yield the entries of a section with their keys; ``*`` becomes an entry for each plugin that is not named."""
    named = {choice.name for choice in choices}
    for position, choice in enumerate(choices):
        is_all = choice.name == _ALL
        names = [name for name in available(section) if name not in named] if is_all else [choice.name]
        for name in names:
            yield choice.placed(f"{section}[{position}]", is_all).model_copy(update={"name": name})


def default_label(name: str, *words: str, **options: Any) -> str:
    """Return the label of an entry without one: its name and everything that differs from its defaults.

    >>> default_label("nib", "paper", steps=4, layer=[1, 2])
    'nib paper steps=4 layer=1,2'
    """
    texts = {
        key: ",".join(map(str, value)) if isinstance(value, list | tuple) else str(value)
        for key, value in options.items()
    }
    return " ".join([name, *filter(None, words), *(f"{key}={text}" for key, text in texts.items())])
