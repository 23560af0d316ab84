"""Checks of plans before a model is loaded: names, variants, options and data sets."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import fields, replace
from pathlib import Path
from typing import Any, TypeVar

from nibt.data.images import ImageInput
from nibt.datasets.base import Dataset
from nibt.engine.encode import encode
from nibt.errors import BadInput, BadOption, CannotLoad, NibtError, UnknownName
from nibt.evaluation.bench.plan import Choice, MethodChoice, MetricChoice, Plan
from nibt.methods._path import along_path
from nibt.methods.base import SIDES
from nibt.metrics.base import Metric
from nibt.models._loading import DTYPES
from nibt.models.base import Model
from nibt.registry import find

_Result = TypeVar("_Result")
_MODEL_OPTIONS = (
    "device",
    "dtype",
    "resize",
    "image_size",
    "pooling",
    "instruction",
    "image_prompt",
    "text_prompt",
)


def check_plan(plan: Plan) -> dict[str, Dataset]:
    """Check a plan, and return its data sets by their labels."""
    check_plugins(plan)
    return {choice.label: open_choice(choice) for choice in plan.data}


def check_plugins(plan: Plan) -> None:
    """Check the targets, models, methods and metrics of a plan."""
    for position, target in enumerate(plan.targets):
        with_key(f"targets[{position}]", lambda name=target: find("targets", name))
    for model in plan.models:
        _check_model(model)
    for method in plan.methods:
        with_key(method.key, lambda choice=method: _check_method(choice))
    for metric in plan.metrics:
        with_key(metric.key, lambda choice=metric: build_metric(choice))


def open_choice(choice: Choice) -> Dataset:
    """Open a data set of a plan."""
    return with_key(choice.key, lambda: _data_set(choice))


def random_methods(methods: Iterable[MethodChoice]) -> list[str]:
    """Return the labels of the methods that draw at random with their options."""
    return [method.label for method in methods if find("methods", method.name).draws(method.options)]


def build_metric(choice: MetricChoice) -> Metric:
    """Build a metric with its options."""
    kind = find("metrics", choice.name)
    _check_names(choice.options, _field_names(kind))
    if choice.measured != "explained":
        find("targets", choice.measured)
    return kind(**choice.options)


def override_plan(
    plan: Plan,
    folders: Mapping[str, str],
    without: Sequence[str] = (),
    models: Sequence[str] = (),
    device: str | None = None,
    count: int | None = None,
) -> Plan:
    """Return a plan with values replaced by those of the command line."""
    known = {name for choice in plan.data for name in (choice.name, choice.label)}
    for name in (*folders, *without):
        if name not in known:
            raise BadOption(str(UnknownName("data sets", name, known)))
    if count is not None and count < 1:
        raise BadOption(f"count must be at least 1 (got {count})")
    kept = [choice for choice in plan.data if choice.name not in without and choice.label not in without]
    if not kept:
        raise BadOption("no data set of the plan remains: leave out fewer data sets")
    data = tuple(
        replace(choice, options={**choice.options, "folder": folders.get(choice.label) or folders[choice.name]})
        if choice.label in folders or choice.name in folders
        else choice
        for choice in kept
    )
    others = tuple(Choice(name, {}, Path(name).name if Path(name).is_dir() else name, "--model") for name in models)
    if len({choice.label for choice in others}) < len(others):
        raise BadOption("two models have the same name: measure them in two runs")
    chosen = others or plan.models
    if device is not None:
        chosen = tuple(replace(choice, options={**choice.options, "device": device}) for choice in chosen)
    return replace(plan, data=data, models=chosen, first=count or plan.first)


def with_key(key: str, function: Callable[[], _Result]) -> _Result:
    """Call a function, and prefix the message of its error with a key of the plan."""
    try:
        return function()
    except (BadInput, CannotLoad) as error:
        raise type(error)(f"{key}: {error}") from error
    except NibtError as error:
        raise BadOption(f"{key}: {error}") from error


def _check_model(choice: Choice) -> None:
    with_key(choice.key, lambda: _check_names(choice.options, _MODEL_OPTIONS))
    if choice.options.get("dtype", "float32") not in DTYPES:
        raise BadOption(f"{choice.key}.options.dtype must be one of {', '.join(DTYPES)}")


def _check_method(choice: MethodChoice) -> None:
    along = choice.options.get("along_path", False)
    kind = along_path(choice.name) if along is True else find("methods", choice.name)
    known = _field_names(kind)
    sided = [f"{side}_{name}" for side in SIDES for name in known]
    _check_names(choice.options, [*known, *sided, "along_path"])
    if choice.variant not in kind.variants:
        raise UnknownName("variants", choice.variant, kind.variants)
    if "seed" in choice.options:
        raise BadOption("seed cannot be an option of a method in a plan: set the key seeds of the plan")
    if any(name.endswith("layer") and value == "auto" for name, value in choice.options.items()):
        raise BadOption("a layer cannot be auto in a plan: find it with nibt explain --layer auto, and set its number")


def _data_set(choice: Choice) -> Dataset:
    """Return the data set of a choice, without the options that need a model."""
    name, colon, source = choice.name.partition(":")
    kind = find("datasets", name)
    known = [field.name for field in fields(kind) if field.init and not field.name.startswith("_")]
    _check_names(choice.options, known)
    options = dict(choice.options)
    if colon:  # NAME:FOLDER, or grid:NAME, whose folder is that of NAME
        folder = f"{source}:{options['folder']}" if name == "grid" and "folder" in options else source
        options["folder"] = folder
    if "folder" in known and "folder" not in options:
        raise BadInput(f"{choice.name} needs its folder: --data {choice.label}=FOLDER, or options.folder in the plan")
    if "scorer" in choice.options:
        raise BadOption(
            "scorer cannot be an option in a plan: with choice = 'best' the model of the plan chooses the captions"
        )
    values = {
        name: tuple(value) if isinstance(value, list) else value
        for name, value in options.items()
        if not _needs_model(choice)(name)
    }
    try:
        data: Dataset = kind(**values)
    except TypeError as error:
        raise BadOption(f"the options do not match: {error}") from error
    if not len(data):
        raise BadInput("the data set is empty")
    return data


def with_best_caption(data: Dataset, choice: Choice, model: Model) -> Dataset:
    """Return the data set, in which ``choice = "best"`` chooses the most similar caption for each image."""
    if not any(map(_needs_model(choice), choice.options)):
        return data

    def similarities(image: ImageInput, captions: Sequence[str]) -> list[float]:
        return model.similarity.to_each(encode(model.image, [image]), encode(model.text, captions))[0].tolist()

    return replace(data, choice="best", scorer=similarities)  # pyright: ignore[reportCallIssue]


def _needs_model(choice: Choice) -> Callable[[str], bool]:
    """Return a function that returns whether an option of the data set needs a model."""
    return lambda name: name == "choice" and choice.options[name] == "best"


def _field_names(kind: Any) -> list[str]:
    return [field.name for field in fields(kind)]


def _check_names(options: Mapping[str, Any], known: Sequence[str]) -> None:
    for name in options:
        if name not in known:
            raise UnknownName("options", name, known)
