"""Read a plan from TOML: models x methods x data sets x metrics x targets x seeds (``docs/reference/plans.md``)."""

from collections.abc import Hashable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import Annotated, Any, TypeVar

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field

from nibt.errors import BadInput, BadOption, UnknownName, check_names, reason
from nibt.evaluation import CONTROLS
from nibt.evaluation.bench.choice import (
    Choice,
    MethodChoice,
    MetricChoice,
    ProtocolStep,
    PublishedValue,
    _AnyChoice,
    _Count,
)
from nibt.io import load_toml, read_path, read_text
from nibt.options import Seed, changed_options
from nibt.records import JsonObject, described, read_record
from nibt.registry import MethodSpec, available
from nibt.types import MeasuredSide

_FOLDER = Path(str(files("nibt.evaluation.bench"))) / "plans"
_ALL = "*"  # in place of a name: every plugin of that section that the plan does not name
_Value = TypeVar("_Value", bound=Hashable)


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
                spec = MethodSpec.parse(entry)
            except UnknownName:
                return {"name": entry}  # an error with the key of the entry, later
            return {"name": spec.name, "variant": spec.variant, "options": spec.options}

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
_MODEL = _Entry("nibt.models.base", "Model")
_DATA = _Entry("nibt.datasets.base", "Dataset")
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
    def read(cls, source: "str | Path | Mapping[str, object] | Plan") -> "Plan":
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

        entries = dict(source) if isinstance(source, Mapping) else _load(source)
        plan = read_record(cls, entries, "", BadOption)

        methods = _with_controls(plan.methods)
        metrics = [*_expanded_metrics(plan)]
        sides = plan.sides
        if "regions" not in sides and any(_measures(metric, ["regions"]) for metric in metrics):
            sides = (*sides, "regions")

        return plan.model_copy(
            update={
                "models": _labeled(_placed(plan.models, "models"), "models"),
                "methods": _labeled(methods, "methods"),
                "data": _labeled(_placed(plan.data, "data"), "data"),
                "metrics": _labeled(metrics, "metrics"),
                "sides": sides,
            }
        )

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
                    yield Cell(model, method, data=data, target=target, seed=seed)


def plans() -> dict[str, str]:
    """Return the titles of the plans that ship with nibt, by name.

    >>> "quick" in plans()
    True
    """
    return {path.stem: load_toml(path)["about"] for path in sorted(_FOLDER.glob("*.toml"))}


def plan_text(name: str) -> str:
    """Return the file of a plan that ships with nibt, which may be copied and edited."""
    check_names("plans", [name], plans())
    return read_text(_FOLDER / f"{name}.toml").strip()


def _measures(metric: MetricChoice, sides: Sequence[MeasuredSide]) -> bool:
    """Return whether a metric measures any of the sides. An unknown name, which is an error later, measures none."""
    return metric.is_known and not set(sides).isdisjoint(metric.plugin.sides)


def _load(source: str | Path) -> JsonObject:
    """Return the content of a plan's file, or of a plan of nibt by its name."""
    path = read_path("plan", source) if source else Path()
    if not path.is_file():
        if path.exists() and path.name != str(source):
            raise BadInput(f"a plan must be a file in TOML ({str(source)!r} is no regular file): give its path")
        if path.suffix or path.name != str(source):
            raise BadInput(f"there is no file {str(source)!r}: nibt list plans shows the plans that ship with nibt")

        check_names("plans", [path.name], plans())
        path = _FOLDER / f"{path.name}.toml"

    try:
        return load_toml(path)
    except (OSError, ValueError) as error:
        raise BadInput(f"{str(source)!r} cannot be read as a plan in TOML ({reason(error)})") from error


def _with_controls(choices: Sequence[MethodChoice]) -> list[MethodChoice]:
    """Return the methods of a plan, each grid expanded, and the negative controls that it does not name."""
    methods = [method for choice in _expand_all(choices, "methods") for method in choice.expanded()]
    named = {method.name for method in methods}
    for name in CONTROLS:
        if name not in named:
            methods.append(MethodChoice.model_validate({"name": name}).placed("the negative controls"))
    return methods


def _expanded_metrics(plan: Plan) -> Iterator[MetricChoice]:
    """Yield the metrics of a plan; ``*`` becomes those of its sides that need not be named."""
    for metric in _expand_all(plan.metrics, "metrics"):
        if not metric.any_plugin or (_measures(metric, plan.sides) and not metric.plugin.only_by_name):
            yield metric


def _placed(choices: Sequence[Choice], section: str) -> list[Choice]:
    """Return the entries of a section with their keys."""
    return [choice.placed(f"{section}[{position}]") for position, choice in enumerate(choices)]


def _labeled(choices: Sequence[Choice], section: str) -> tuple[Choice, ...]:
    """Return the entries of a section with their labels, which must differ."""
    labeled: dict[str, Choice] = {}
    for choice in choices:
        label = choice.label or choice.default_label()
        if label in labeled:
            raise BadOption(f"{choice.key} has the label {label!r} of another entry of {section}: set its label")
        labeled[label] = choice.model_copy(update={"label": label})

    return tuple(labeled.values())


def _expand_all(choices: Sequence[_AnyChoice], section: str) -> Iterator[_AnyChoice]:
    """Yield the entries of a section with their keys; ``*`` becomes an entry for each plugin that is not named."""
    named = {choice.name for choice in choices}
    for position, choice in enumerate(choices):
        is_all = choice.name == _ALL
        names = [name for name in available(section) if name not in named] if is_all else [choice.name]
        for name in names:
            yield choice.placed(f"{section}[{position}]", is_all).model_copy(update={"name": name})
