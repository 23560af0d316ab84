"""The entries of a plan: models, data sets, methods and metrics with their options."""

import itertools
import math
from collections.abc import Iterator
from typing import Annotated, Any, ClassVar, TypeVar

from pydantic import BaseModel, ConfigDict, Field, PrivateAttr

from nibt.errors import BadOption
from nibt.options import BatchSize, Keywords
from nibt.records import JsonObject
from nibt.registry import MethodSpec, available, find
from nibt.types import MeasuredSide

_MOST_ENTRIES = 1000
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
        choice._key = key
        choice._any_plugin = any_plugin
        return choice

    def with_options(self: _AnyChoice, **options: object) -> _AnyChoice:
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
    def spec(self) -> MethodSpec:
        if self.instance is not None:
            return MethodSpec.of(self.instance)
        return MethodSpec(self.name, self.variant, self.options)

    def default_label(self) -> str:
        plain = {key: value for key, value in self.options.items() if not callable(getattr(self.instance, key, None))}
        return default_label(self.name, "" if self.variant == "default" else self.variant, **plain)


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
    value: float = Field(allow_inf_nan=False, strict=True)
    source: str = Field(min_length=1, description="The table and the model that it is for.")


def default_label(name: str, *words: str, **options: object) -> str:
    """Return the label of an entry without one: its name and everything that differs from its defaults.

    >>> default_label("nib", "paper", steps=4, layer=[1, 2])
    'nib paper steps=4 layer=1,2'
    """
    texts = {
        key: ",".join(map(str, value)) if isinstance(value, list | tuple) else str(value)
        for key, value in options.items()
    }
    return " ".join([name, *filter(None, words), *(f"{key}={text}" for key, text in texts.items())])
