"""The file of a plan: what TOML may hold, with its defaults. ``docs/reference/plans.md`` describes it."""

from collections.abc import Hashable, Sequence
from typing import Annotated, Any, TypeVar

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field

from nibt.options import BatchSize, Seed
from nibt.types import Modality

ALL = "*"
"""In place of a name: every plugin of that kind that the plan does not name."""
_Value = TypeVar("_Value", bound=Hashable)
_Count = Annotated[BatchSize, Field(strict=True)]


class _Record(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Entry(_Record):
    """A model, a data set, a method or a metric."""

    name: str = Field(min_length=1, description="The name of the plugin; of a model, also a folder or a hub's name.")
    options: dict[str, Any] = Field({}, description="Its options; the others have their defaults.")
    label: str = Field("", description="How tables call it; by default its name and what differs from the defaults.")


class MethodEntry(Entry):
    """A method."""

    variant: str = Field("default", description="The variant of the method.")
    first: _Count | None = Field(None, description="Measure only so many pairs of each data set: for slow methods.")
    grid: dict[str, Annotated[list[Any], Field(min_length=1)]] = Field(
        {}, description="Lists of values by option: an entry for each combination."
    )


class MetricEntry(Entry):
    """A metric."""

    measured: str = Field("explained", description="The score that is measured, a target; default: the explained one.")


def _as_table(entry: Any) -> Any:
    """Return the table of an entry; a string is an entry that has only a name."""
    if isinstance(entry, str):
        return {"name": entry}
    if not isinstance(entry, dict | Entry):
        raise ValueError(f"must be a name, or a table with a name (got {entry!r})")
    return entry


def _unique(values: Sequence[_Value]) -> Sequence[_Value]:
    """Return the values."""
    if not values or len(set(values)) < len(values):
        raise ValueError(f"must have at least one entry, and no entry twice (got {list(values)!r})")
    return values


_FilledList = Field(min_length=1)
_Models = Annotated[list[Annotated[Entry, BeforeValidator(_as_table, str | Entry)]], _FilledList]
_Methods = Annotated[list[Annotated[MethodEntry, BeforeValidator(_as_table, str | MethodEntry)]], _FilledList]
_Metrics = Annotated[list[Annotated[MetricEntry, BeforeValidator(_as_table, str | MetricEntry)]], _FilledList]


class PlanFile(_Record):
    """What a benchmark measures: models x methods x data sets x metrics x targets x seeds."""

    models: _Models = Field(description="The models.")
    methods: _Methods = Field(description='The methods; "*" is every other method that the model can run.')
    data: _Models = Field(description="The data sets.")
    metrics: _Metrics = Field(description='The metrics; "*" is every metric that is not named.')
    targets: Annotated[tuple[str, ...], AfterValidator(_unique)] = Field(
        ("cosine",), description="The targets that are explained."
    )
    seeds: Annotated[tuple[Annotated[Seed, Field(strict=True)], ...], AfterValidator(_unique)] = Field(
        (0,), description="Seeds for methods that draw at random; the other methods use the first one only."
    )
    sides: Annotated[tuple[Modality, ...], AfterValidator(_unique)] = Field(
        ("image", "text"), description="The sides that are explained."
    )
    batch_size: _Count = Field(16, description="The number of pairs that go through a model and are written together.")
    against: tuple[str, ...] = Field((), description="Captions to compare with, for targets that compare.")
    first: _Count | None = Field(None, description="Measure only so many pairs of each data set.")
    published: bool = Field(False, strict=True, description="Whether the report shows the figures of the paper, too.")
    about: str = Field("", description="The title of the report.")
