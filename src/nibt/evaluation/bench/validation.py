"""A plan is checked as a whole before a model is loaded: each name, variant and option, and that data are there."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import fields, replace
from pathlib import Path
from typing import Any, TypeVar

import torch.nn.functional as F

from nibt.data.images import ImageInput
from nibt.datasets.base import Dataset
from nibt.engine.encode import encode
from nibt.errors import BadInput, BadOption, CannotLoad, NibtError, UnknownName
from nibt.evaluation.bench.choices import Choice, MethodChoice, MetricChoice
from nibt.evaluation.bench.plan import Plan
from nibt.methods._path import along_path
from nibt.methods.base import SIDES
from nibt.metrics.base import Metric
from nibt.models._loading import DTYPES
from nibt.models.base import Model
from nibt.registry import find

_Any = TypeVar("_Any")
_MODEL_OPTIONS = ("device", "dtype", "resize", "image_size")


def checked(plan: Plan) -> dict[str, Dataset]:
    """The data sets of a plan, by their labels, once all of it holds.

    Raises:
        BadOption: A name, a variant or an option is unknown or cannot be; the message begins with its key.
        BadInput: A data set is not there or not whole.

    """
    for seed in plan.seeds:
        if seed < 0:
            raise BadOption(f"seeds must not be negative (got {seed})")
    for place, target in enumerate(plan.targets):
        with_key(f"targets[{place}]", lambda name=target: find("targets", name))
    for model in plan.models:
        _check_model(model)
    for method in plan.methods:
        with_key(method.key, lambda one=method: _check_method(one))
    for metric in plan.metrics:
        with_key(metric.key, lambda one=metric: build_metric(one))
    return {choice.label: with_key(choice.key, lambda one=choice: _data(one)) for choice in plan.data}


def drawing(methods: Iterable[MethodChoice]) -> list[str]:
    """The methods that draw at random, which are those that take a seed."""
    return [one.name for one in methods if "seed" in _names(find("methods", one.name))]


def build_metric(choice: MetricChoice) -> Metric:
    """The metric that was chosen.

    Raises:
        UnknownName: There is no such metric, option or target.
        BadOption: An option cannot have that value.

    """
    kind = find("metrics", choice.name)
    _check_names(choice.options, _names(kind))
    if choice.measured != "explained":
        find("targets", choice.measured)
    return kind(**choice.options)


def changed(
    plan: Plan,
    folders: Mapping[str, str],
    without: Sequence[str] = (),
    models: Sequence[str] = (),
    device: str | None = None,
    count: int | None = None,
) -> Plan:
    """The plan with what a command line says otherwise: the folders of its data sets, by their names or labels; without
    some of them; other models; another device; only the first pairs.

    Raises:
        BadOption: No data set of the plan goes by such a name, none is left, or the count is below 1.

    """
    known = {name for one in plan.data for name in (one.name, one.label)}
    for name in (*folders, *without):
        if name not in known:
            raise BadOption(str(UnknownName("data sets", name, known)))
    if count is not None and count < 1:
        raise BadOption(f"count must be at least 1 (got {count})")
    kept = [one for one in plan.data if one.name not in without and one.label not in without]
    if not kept:
        raise BadOption("no data set of the plan is left")
    data = tuple(
        replace(one, options={**one.options, "folder": folders.get(one.label) or folders[one.name]})
        if one.label in folders or one.name in folders
        else one
        for one in kept
    )
    others = tuple(Choice(name, {}, Path(name).name if Path(name).is_dir() else name, "--model") for name in models)
    if len({one.label for one in others}) < len(others):
        raise BadOption("two of the models have the same name: measure them in two runs")
    told = others or plan.models
    if device is not None:
        told = tuple(replace(one, options={**one.options, "device": device}) for one in told)
    return replace(plan, data=data, models=told, first=count or plan.first)


def with_key(key: str, work: Callable[[], _Any]) -> _Any:
    """What the work gives; what it refuses is told with its place in the plan.

    Raises:
        BadInput: The work raised it.
        CannotLoad: The work raised it.
        BadOption: The work raised another error of this library.

    """
    try:
        return work()
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
    own = _names(kind)
    sided = [f"{side}_{name}" for side in SIDES for name in own]
    _check_names(choice.options, [*own, *sided, "along_path", "shifts"])
    if choice.variant not in kind.variants:
        raise UnknownName("variants", choice.variant, kind.variants)
    if "seed" in choice.options:
        raise BadOption("seeds are a key of the plan, not an option of a method")
    if any(name.endswith("layer") and value == "auto" for name, value in choice.options.items()):
        raise BadOption("a layer cannot be auto in a plan: find it with nibt explain --layer auto, and name it")


def _data(choice: Choice) -> Dataset:
    kind = find("datasets", choice.name)
    own = [field.name for field in fields(kind) if field.init and not field.name.startswith("_")]
    _check_names(choice.options, own)
    if "folder" in own and "folder" not in choice.options:
        raise BadInput(f"{choice.name} needs its folder: --data {choice.label}=FOLDER, or options.folder in the plan")
    if "scorer" in choice.options:
        raise BadOption("scorer is no option of a plan: with choice = 'best' captions are chosen by the plan's model")
    values = {
        name: tuple(value) if isinstance(value, list) else value
        for name, value in choice.options.items()
        if not _by_model(choice)(name)
    }
    try:
        data: Dataset = kind(**values)
    except TypeError as error:
        raise BadOption(f"the options do not fit: {error}") from error
    if not len(data):
        raise BadInput("the data set is empty")
    return data


def with_best_caption(data: Dataset, choice: Choice, model: Model) -> Dataset:
    """The data set as a model sees it: where the best caption of an image is wanted, the one of the highest cosine."""
    if not any(map(_by_model(choice), choice.options)):
        return data

    def cosines(image: ImageInput, captions: Sequence[str]) -> list[float]:
        texts = F.normalize(encode(model.text, captions), dim=-1)
        return (texts @ F.normalize(encode(model.image, [image]), dim=-1)[0]).tolist()

    return replace(data, choice="best", scorer=cosines)  # pyright: ignore[reportCallIssue]


def _by_model(choice: Choice) -> Callable[[str], bool]:
    """Which options of a data set wait for a model; its length does not depend on them."""
    return lambda name: name == "choice" and choice.options[name] == "best"


def _names(kind: Any) -> list[str]:
    return [field.name for field in fields(kind)]


def _check_names(options: Mapping[str, Any], known: Sequence[str]) -> None:
    for name in options:
        if name not in known:
            raise UnknownName("options", name, known)
