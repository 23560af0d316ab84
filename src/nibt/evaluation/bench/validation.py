"""Checks of plans before a model is loaded: names, variants, options and data sets."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import fields, replace
from pathlib import Path

from nibt.data.images import ImageInput
from nibt.datasets._opening import FolderMissing, open_dataset
from nibt.datasets.base import Dataset
from nibt.engine.encode import encode
from nibt.errors import BadInput, BadOption, NibtError, UnknownName, check_names
from nibt.evaluation.bench.choice import Choice, MethodChoice, MetricChoice
from nibt.evaluation.bench.plan import Plan
from nibt.methods._path import along_path
from nibt.methods.base import SIDES
from nibt.metrics.base import Metric
from nibt.models._failures import EMBEDDED
from nibt.models._loading import check_name
from nibt.models._mean_states import FILE_NAME
from nibt.models._request import LoadOptions, check_device, check_source
from nibt.models.base import Model
from nibt.options import field_types, parsed
from nibt.registry import find


def check_plan(plan: Plan) -> dict[str, Dataset]:
    """Check a plan, and return its data sets by their labels."""
    check_plugins(plan)
    return {choice.label: open_data(choice, plan.count) for choice in plan.data}


def check_plugins(plan: Plan) -> None:
    """Check the targets, models, methods and metrics of a plan."""
    for position, target in enumerate(plan.targets):
        with error_key(f"targets[{position}]"):
            others, default = find("targets", target).others, find("targets", target).shipped_default
            ships = default and all((EMBEDDED / choice.name / FILE_NAME).exists() for choice in plan.models)
            if (others != "none" and not (plan.against or ships)) or (others == "one" and len(plan.against) > 1):
                wanted = "one caption" if others == "one" else "captions"
                raise BadOption(f"{target} compares with {wanted} (got {len(plan.against)}): list {wanted} in against")
    for model in plan.models:
        with error_key(model.key):
            check_names("options", model.options, [field.name for field in fields(LoadOptions)])
            check_device(LoadOptions(**model.options).device)
            if model.instance is None:
                check_source(model.name)
                check_name(model.name)
    for method in plan.methods:
        with error_key(method.key):
            _check_method(method)
    for choice in plan.metrics:
        with error_key(choice.key):
            metric = build_metric(choice)
            if not {*metric.sides} & {*plan.sides}:
                raise BadOption(
                    f"{choice.name} measures the side {' or '.join(metric.sides)} (got sides {', '.join(plan.sides)}): "
                    "add one to sides, or leave the metric out"
                )
            if "regions" in metric.sides and ("cosine" not in plan.targets or choice.measured != "explained"):
                raise BadOption(
                    f"{choice.name} measures the regions of the target cosine (got targets {', '.join(plan.targets)}, "
                    f"measured {choice.measured}): add cosine to targets, and leave measured out"
                )
    scores = {*plan.targets, *(metric.measured for metric in plan.metrics)} - {"explained"}
    if plan.against and all(find("targets", name).others == "none" for name in scores):
        raise BadOption(
            f"against has no effect, since {', '.join(sorted(scores))} compares with nothing: leave it out, or add "
            "difference or softmax to targets"
        )


def dry_run(plan: Plan) -> Iterator[str]:
    """Check a plan without a model, and yield lines about what it would measure, and about data that are missing."""
    check_plugins(plan)
    for key, choices in {"models": plan.models, "methods": plan.methods, "metrics": plan.metrics}.items():
        yield f"{key} ({len(choices)}): {', '.join(choice.label for choice in choices)}"
    for key, values in {"targets": plan.targets, "sides": plan.sides, "seeds": plan.seeds}.items():
        yield f"{key}: {', '.join(map(str, values))}"
    explanations = 0
    for choice in plan.data:
        try:
            length = len(open_data(choice, plan.count))
        except BadInput as error:
            yield f"data {choice.label}: missing ({error})"
            continue
        for model in plan.models:
            explanations += sum(plan.length(cell.method, length) for cell in plan.cells(model, choice))
        yield f"data {choice.label}: {min(length, plan.count or length):,} pairs"
    yield f"explanations of each side: {explanations:,}"


def build_metric(choice: MetricChoice) -> Metric:
    """Build a metric with its options."""
    if choice.instance is not None:
        return choice.instance
    metric = choice.plugin
    check_names("options", choice.options, [field.name for field in fields(metric)])
    if choice.measured != "explained":
        find("targets", choice.measured)
    return metric(**choice.options)


def override_plan(
    plan: Plan,
    folders: Mapping[str, str],
    without: Sequence[str] = (),
    models: Sequence[str] = (),
    device: str | None = None,
    count: int | None = None,
) -> Plan:
    """Return a plan with values replaced by those of the command line."""
    names = {name for choice in plan.data for name in (choice.name, choice.label)}
    for name in (*folders, *without):
        if name not in names:
            raise BadOption(str(UnknownName("data sets", name, names)))
    if "" in models:
        raise BadOption("a model must be named (got '')")
    if count is not None and count < 1:
        raise BadOption(f"count must be at least 1 (got {count})")
    kept = [choice for choice in plan.data if choice.name not in without and choice.label not in without]
    if not kept:
        raise BadOption("no data set of the plan remains: leave out fewer data sets")
    data = tuple(
        choice.with_options(folder=folders.get(choice.label) or folders[choice.name])
        if choice.label in folders or choice.name in folders
        else choice
        for choice in kept
    )
    labels = {name: Path(name).name if Path(name).is_dir() else name for name in models}
    if len(set(labels.values())) < len(models):
        raise BadOption("two models have the same name: measure them in two runs")
    options = plan.models[0].options if len(plan.models) == 1 else {}
    named = [
        Choice.model_validate({"name": name, "label": label, "options": options}) for name, label in labels.items()
    ]
    entries = tuple(choice.placed("--model") for choice in named) or plan.models
    if device is not None:
        entries = tuple(choice.with_options(device=device) for choice in entries)
    left_out = [choice.label for choice in plan.data if choice not in kept]
    changes = [f"without {', '.join(left_out)}"] if left_out else []
    changes += [f"with {', '.join(labels.values())}"] if labels else []
    changes += [f"{count} pairs of each data set"] if count else []
    about = "; ".join(filter(None, [plan.about, *changes]))
    return plan.model_copy(update={"data": data, "models": entries, "count": count or plan.count, "about": about})


@contextmanager
def error_key(key: str) -> Iterator[None]:
    """Prefix the messages of errors with a key of the plan."""
    try:
        yield
    except UnknownName as error:
        raise BadOption(f"{key}: {error}") from error
    except NibtError as error:
        raise type(error)(f"{key}: {error}") from error


def _check_method(choice: MethodChoice) -> None:
    if choice.instance is not None:
        return
    along = choice.options.get("along_path", False)
    method = along_path(choice.name) if along is True else find("methods", choice.name)
    names = [field.name for field in fields(method)]
    sided = [f"{side}_{name}" for side in SIDES for name in names]
    check_names("options", choice.options, [*names, *sided, "along_path"])
    types = field_types(method)
    for name, value in choice.options.items():
        if name.endswith("baseline") and value == "against":
            raise BadOption(f"{name} must not be against in a plan, whose pairs have no other image")
        option = name.removeprefix("image_").removeprefix("text_")
        if value is not None and option in types and option != "layer":  # which may be a share of the depth
            parsed(name, value, types[option])
    check_names("variants", [choice.variant], method.variants)
    if "seed" in choice.options:
        raise BadOption("seed cannot be an option of a method in a plan: set the key seeds of the plan")


def open_data(choice: Choice, count: int | None = None) -> Dataset:
    """Open a data set of a plan, of which at most ``count`` pairs are measured, without what needs a model."""
    with error_key(choice.key):
        if choice.instance is not None:
            return choice.instance
        name, _, source = choice.name.partition(":")
        options = {option: value for option, value in choice.options.items() if not _needs_model(choice, option)}
        if count is not None and isinstance(options.get("count"), int):
            options["count"] = min(count, options["count"])
        if "scorer" in options:
            raise BadOption(
                "scorer cannot be an option in a plan: with choice = 'best' the model of the plan chooses the captions"
            )
        folder = options.pop("folder", "")  # NAME:FOLDER, or grid:NAME, whose folder is that of NAME
        try:
            data = open_dataset(":".join(text for text in (name, source, str(folder)) if text), options)
        except FolderMissing as error:
            raise BadInput(f"{error}, or --data {choice.label}=FOLDER") from error
        if not len(data):
            raise BadInput("the data set is empty")
        return data


def with_best_caption(data: Dataset, choice: Choice, model: Model) -> Dataset:
    """Return the data set, in which ``choice = "best"`` chooses the most similar caption for each image."""
    if not any(_needs_model(choice, name) for name in choice.options):
        return data

    def similarities(image: ImageInput, captions: Sequence[str]) -> list[float]:
        return model.similarity.to_each(encode(model.image, [image]), encode(model.text, captions))[0].tolist()

    return replace(data, choice="best", scorer=similarities)  # pyright: ignore[reportCallIssue]


def _needs_model(choice: Choice, option: str) -> bool:
    """Return whether an option of a data set needs a model."""
    return option == "choice" and choice.options[option] == "best"
